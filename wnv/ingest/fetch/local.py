"""A user's own videos: found below one folder, never outside it."""

from pathlib import Path, PurePosixPath

from wnv.ingest.tasks import StageError


def local_video(folder: Path | None, name: str) -> Path:
    """The absolute path of a video that a manifest names by its path below the folder of videos.

    Raises:
        StageError: If there is no such folder or file, or if the path leads out of the folder, by `..`, from the root,
            or through a link.
    """
    if folder is None:
        raise StageError(
            "refused",
            "forbidden_address",
            "the manifest names a local video, but no folder of videos; name it with source= or fetch.videos=",
        )
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise StageError("refused", "forbidden_address", f"'{name}' is no path below the folder of videos")
    base = folder.resolve()
    found = (base / path).resolve()
    if not found.is_relative_to(base):
        raise StageError("refused", "forbidden_address", f"'{name}' leads out of {folder} through a link")
    if not found.is_file():
        raise StageError("refused", "gone", f"no file '{name}' in {folder}")
    return found
