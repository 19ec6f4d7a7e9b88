"""The scenes at a place, whatever they are stored as: scene files, or clips with poses beside them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wnv.scenes.archive import is_url
from wnv.scenes.frame_source import FrameSource
from wnv.scenes.index import find_scenes, read_index
from wnv.scenes.posed_clip import POSES_SUFFIX, VIDEO_SUFFIX, read_poses
from wnv.scenes.read import open_scene
from wnv.scenes.read_clip import open_clip
from wnv.scenes.schema import INDEX_FILE
from wnv.scenes.video import Decoder


@dataclass(frozen=True)
class ListedScene:
    """Where a scene lies and how long it is."""

    path: str
    num_frames: int


def open_source(path: str, *, decoder: Decoder = "auto") -> FrameSource:
    """Open a scene file, or a clip with poses.

    Args:
        path: As `list_scenes` gives it; scene files may be URLs that fsspec understands.
        decoder: What reads clips: `decord`, `pyav`, or `auto`.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If it breaks a rule.
    """
    if _is_clip(path):
        return open_clip(path, decoder=decoder)
    return open_scene(path)


def list_scenes(root: str | Path) -> dict[str, ListedScene]:
    """The scenes at a place, by their ids, in the order of their files.

    Args:
        root: One scene file or clip, or a folder of them; with an `index.jsonl` in it, only that is read, else every
            scene file, or every file of poses, is opened once. Scene files and folders with an index may be URLs.

    Raises:
        FileNotFoundError: If there is nothing at `root`, or no scene in it.
        ValueError: If a scene breaks a rule or two have one id.
    """
    root = str(root)
    if (is_url(root) and not root.endswith(".zip")) or (Path(root) / INDEX_FILE).is_file():
        base = root.rstrip("/")
        return {record.id: ListedScene(f"{base}/{record.file}", record.num_frames) for record in read_index(root)}
    if not is_url(root) and not Path(root).exists():
        raise FileNotFoundError(
            f"root not found: {root}; give one scene file (.zip), a folder of scene files, or one of clips with poses"
        )
    scenes: dict[str, ListedScene] = {}
    for name, scene in _look_into(root):
        if name in scenes:
            raise ValueError(f"two scene files have the id {name!r}: {scenes[name].path} and {scene.path}")
        scenes[name] = scene
    return scenes


def _look_into(root: str) -> Iterator[tuple[str, ListedScene]]:
    folder = Path(root)
    if is_url(root) or not folder.is_dir():
        paths = [folder.with_suffix(POSES_SUFFIX)] if _is_clip(root) else [root]
    else:
        # The second says what is missing where there are none of either.
        paths = find_clips(folder) or find_scenes(folder)
        if _is_clip(str(paths[0])) and any(folder.rglob("*.zip")):
            raise ValueError(
                f"{folder} holds clips with poses and scene files; name the folder of the one or the other"
            )
    for path in paths:
        if _is_clip(str(path)):
            poses = read_poses(path)
            yield poses.id, ListedScene(str(path), len(poses.frames))
        else:
            scene = open_scene(path)
            yield scene.info.id, ListedScene(str(path), len(scene))


def find_clips(folder: Path) -> list[Path]:
    """The files of poses in a local folder and the folders in it that have a video beside them, sorted."""
    return [path for path in sorted(folder.rglob(f"*{POSES_SUFFIX}")) if path.with_suffix(VIDEO_SUFFIX).is_file()]


def _is_clip(path: str) -> bool:
    return path.endswith((POSES_SUFFIX, VIDEO_SUFFIX))
