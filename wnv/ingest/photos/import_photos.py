"""Import folders of photographs as scene files in one step, without an output root."""

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wnv.ingest.clip.clip_stage import ClipStage
from wnv.ingest.clip.segments import ClipRules
from wnv.ingest.driver import children_of
from wnv.ingest.fetch.fetch_stage import FetchStage
from wnv.ingest.layout import scene_folder
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.videos import read_videos
from wnv.ingest.pack_stage import PackStage
from wnv.ingest.photos.photo_set import PHOTOS_PREFIX
from wnv.ingest.pose.colmap import ColmapEstimator
from wnv.ingest.pose.filters import PoseFilters
from wnv.ingest.pose.pose_stage import PoseStage
from wnv.ingest.tasks import Outcome, Stage, StageName, Task, run_task
from wnv.scenes.importers.capture import ImportOptions, Rejection
from wnv.scenes.importers.import_scenes import ImportResult
from wnv.scenes.schema import safe_id

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Folder:
    scene_id: str
    where: str
    line: ManifestLine


def import_photos(
    source: Path,
    out: Path,
    *,
    options: ImportOptions | None = None,
    on_progress: Callable[[ImportResult], None] = lambda result: None,
    stages: Mapping[StageName, Stage] | None = None,
) -> ImportResult:
    """Write one scene file per folder of photographs below a folder; a rejected one does not stop the others.

    The stages are those of `wnv-data run`, with their default settings; their files are temporary.

    Args:
        source: Folder of photographs; each subfolder with photographs is a scene, too.
        out: Folder of the scene files.
        options: `scene_id`, `kind`, `max_side`, `exists`, `image_format` and `quality` count.
        on_progress: Called after each folder, with the result so far.
        stages: Other stages, for example with another pose estimator.

    Raises:
        FileNotFoundError: If the source does not exist.
        ValueError: If it holds no photographs, or videos, too; or `scene_id` is set for several folders.
        OSError: If the scenes or temporary files cannot be written.
    """
    options = options or ImportOptions()
    folders = _folders(source, options)
    stages = _default_stages(source, options) | dict(stages or {})
    result = ImportResult()
    for folder in folders:
        path = out / f"{folder.scene_id}.zip"
        if path.is_file() and options.exists == "skip":
            result.skipped.append(path)
        elif path.is_file() and options.exists == "error":
            error = FileExistsError(f"{path} exists; set exists=skip to keep it, or exists=replace")
            result.rejected.append(Rejection(folder.where, error))
        else:
            out.mkdir(parents=True, exist_ok=True)
            # In the folder of the scenes, so that the file can be renamed into place.
            with tempfile.TemporaryDirectory(prefix=".photos-", dir=out) as root:
                outcome = _import_folder(folder, Path(root), stages)
                if outcome.state == "done":
                    os.replace(Path(root) / outcome.result["file"], path)
                    result.written.append(path)
                else:
                    result.rejected.append(Rejection(folder.where, _rejection(folder, outcome)))
        on_progress(result)
    return result


def _folders(source: Path, options: ImportOptions) -> list[_Folder]:
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder; source must be a folder of photographs")
    lines, _ = read_videos(source, kind=options.kind or "static")
    if not all(str(line.key).startswith(PHOTOS_PREFIX) for line in lines):
        raise ValueError(f"{source} holds videos; import them with wnv-data run source={source} root=...")
    if options.scene_id is not None and len(lines) > 1:
        raise ValueError(f"scene_id names one scene, but {source} has {len(lines)} folders of photographs")
    folders = []
    for line in lines:
        below = str(line.url)
        # The folder itself is named as other importers name it.
        name = source.absolute().name if below == "." else below
        folders.append(_Folder(scene_id=safe_id(options.scene_id or name), where=str(source / below), line=line))
    return folders


def _rejection(folder: _Folder, outcome: Outcome) -> ValueError:
    reason = "" if outcome.message.startswith(f"{outcome.reason}:") else f"{outcome.reason}: "
    # A relaxed limit needs the command that has the setting.
    how = f"; wnv-data run source={folder.where} root=... has these settings" if "pose." in outcome.message else ""
    return ValueError(f"{folder.where}: {reason}{outcome.message}{how}")


def _default_stages(source: Path, options: ImportOptions) -> dict[StageName, Any]:
    return {
        "fetch": FetchStage(videos=source),
        "clip": ClipStage(rules=ClipRules()),
        "pose": PoseStage(
            estimator=ColmapEstimator(),
            retry=ColmapEstimator(num_features=4096, focal_guess=0.9, init_min_parallax_deg=4.0, pose_min_inliers=20),
            filters=PoseFilters(),
        ),
        "pack": PackStage(max_side=options.max_side, image_format=options.image_format, quality=options.quality),
    }


def _import_folder(folder: _Folder, root: Path, stages: Mapping[StageName, Stage]) -> Outcome:
    """Take one folder through all stages; return the outcome of the last one.

    Raises:
        OSError: If the disk is full or cannot be written to.
    """
    line = folder.line
    task = Task(stage="fetch", item=str(line.key), root=root, payload={**line.to_json(), "split": "train"})
    while True:
        outcome = run_task(stages[task.stage], task)
        if outcome.state == "pending":
            raise OSError(f"cannot write below {root.parent}: {outcome.message}")
        if outcome.state != "done":
            return outcome
        if outcome.message:
            _log.warning("%s: %s", folder.where, outcome.message)
        children = children_of(task, outcome.result)
        if not children:
            assert outcome.result["file"].startswith(scene_folder(kind=line.kind, split="train"))
            return outcome
        (child,) = children
        item, payload = child.item, child.payload
        if child.stage in ("pose", "pack"):
            item, payload = folder.scene_id, {**payload, "id": folder.scene_id}
        task = Task(stage=child.stage, item=item, root=root, payload=payload)
