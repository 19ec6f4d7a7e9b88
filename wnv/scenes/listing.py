"""Scenes at a path: scene files, or clips with poses beside them."""

import logging
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch.utils.data import get_worker_info

from wnv.scenes.archive import is_url
from wnv.scenes.clip_poses import POSES_SUFFIX, VIDEO_SUFFIX, read_poses
from wnv.scenes.index import find_scenes, read_index
from wnv.scenes.listing_cache import ListedScene, once_per_host
from wnv.scenes.posed_clip import PosedClip
from wnv.scenes.scene import Scene
from wnv.scenes.scene_file import SceneFile
from wnv.scenes.schema import INDEX_FILE
from wnv.scenes.video import Decoder

logger = logging.getLogger(__name__)

# Listings of at least so many scenes are shared by the processes of a host: opening a scene takes about 3 ms.
_MIN_SHARED = 200


def open_scene(path: str | Path, *, decoder: Decoder = "auto") -> Scene:
    """Open a scene file, or a clip with poses beside it, for reading.

    Everything but the pixels is checked here; images are read and checked on request. Doubtful cameras are logged as a
    warning, once per scene and process.

    Args:
        path: A scene file (`.zip`), local or any URL that fsspec understands; or a local clip (`.mp4`, or its `.json`).
        decoder: Decoder for clips: `decord`, `pyav`, or `auto` (decord if it is installed).

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If the scene is invalid; the message names scene, frame, value and fix.

    Example:
        >>> scene = open_scene("scenes/fox.zip")
        >>> scene.id, scene.kind, len(scene)
        ('fox', 'static', 50)
        >>> views = scene.views([0, 4])  # images, cameras and times as tensors
    """
    scene = PosedClip(path, decoder=decoder) if _is_clip(str(path)) else SceneFile(path)
    _warn_of_doubts(scene)
    return scene


_checked: set[str] = set()


def _warn_of_doubts(scene: Scene) -> None:
    worker = get_worker_info()
    # All loader processes open all scenes in the end; one of them warns.
    is_other_workers = worker is not None and zlib.crc32(scene.path.encode()) % worker.num_workers != worker.id
    if scene.path in _checked or is_other_workers:
        return
    _checked.add(scene.path)
    # Data sets of hand-held videos hold many cameras that pan in place.
    for doubt in scene.doubts(check_axes=worker is None):
        logger.warning("%s", doubt)


def list_scenes(root: str | Path) -> dict[str, ListedScene]:
    """List the scenes at a path by id, in the order of their files.

    Args:
        root: A scene file, a clip, or a folder of either. A folder with an `index.jsonl` is listed from it; otherwise
            each scene file or file of poses is opened once per host, at some milliseconds each. Scene files and indexed
            folders may be URLs.

    Raises:
        FileNotFoundError: If `root` does not exist or holds no scene.
        ValueError: If a scene is invalid or two have one id.
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
        return _open_each([folder.with_suffix(POSES_SUFFIX)] if _is_clip(root) else [root])
    # `find_scenes` reports an empty folder.
    paths = find_clips(folder) or find_scenes(folder)
    kind = "clips" if _is_clip(str(paths[0])) else "scene files"
    if kind == "clips" and any(folder.rglob("*.zip")):
        raise ValueError(f"{folder} holds both clips and scene files; separate them into two folders")

    def list_now() -> list[tuple[str, ListedScene]]:
        hint = "" if kind == "clips" else f"; `wnv-data index path={folder}` makes this quick"
        logger.info("%s has no %s: opening %d %s to list them%s", folder, INDEX_FILE, len(paths), kind, hint)
        return list(_open_each(paths))

    if len(paths) < _MIN_SHARED:
        return iter(list_now())
    return iter(once_per_host(folder, paths, list_now))


def _open_each(paths: Iterable[str | Path]) -> Iterator[tuple[str, ListedScene]]:
    for path in paths:
        if _is_clip(str(path)):
            poses = read_poses(path)
            yield poses.id, ListedScene(str(path), len(poses.frames))
        else:
            scene = SceneFile(path)
            yield scene.id, ListedScene(str(path), len(scene))


def find_clips(folder: Path) -> list[Path]:
    """Files of poses with a video beside them in a local folder and its subfolders, sorted."""
    return [path for path in sorted(folder.rglob(f"*{POSES_SUFFIX}")) if path.with_suffix(VIDEO_SUFFIX).is_file()]


def _is_clip(path: str) -> bool:
    return path.endswith((POSES_SUFFIX, VIDEO_SUFFIX))
