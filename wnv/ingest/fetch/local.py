"""Local videos, found below one folder and never outside it."""

from pathlib import Path, PurePosixPath

from wnv.ingest.tasks import StageError


def local_video(folder: Path | None, name: str) -> Path:
    """Return the absolute path of a video that a manifest names relative to the folder of videos.

    Raises:
        StageError: If the folder or file does not exist, or the path leaves the folder (`..`, an absolute path, a
            link).
    """
    if folder is None:
        raise StageError(
            "refused",
            "forbidden_address",
            "the folder of local videos is not set; set source=FOLDER or fetch.videos=FOLDER",
        )
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise StageError("refused", "forbidden_address", f"'{name}' is not a path below the folder of videos")
    base = folder.resolve()
    found = (base / path).resolve()
    if not found.is_relative_to(base):
        raise StageError("refused", "forbidden_address", f"'{name}' leaves {folder} through a link")
    if not found.is_file():
        raise StageError("refused", "gone", f"no file '{name}' in {folder}")
    return found
