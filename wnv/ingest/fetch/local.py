"""Local videos, found below one folder and never outside it."""

import hashlib
from pathlib import Path, PurePosixPath

from wnv.ingest.tasks import StageError

_SAMPLE_BYTES = 2**20


def content_id(path: Path) -> str:
    """Return an id that copies of a file share: its size, and a hash of its beginning and end."""
    with open(path, "rb") as file:
        head = file.read(_SAMPLE_BYTES)
        size = file.seek(0, 2)
        file.seek(max(0, size - _SAMPLE_BYTES))
        return f"{size}-{hashlib.sha256(head + file.read()).hexdigest()[:32]}"


def local_video(folder: Path | None, name: str, *, follow_links: bool = False) -> Path:
    """Return the absolute path of a video that a manifest names relative to the folder of videos.

    Raises:
        StageError: If the folder or file does not exist, or the path leaves the folder: with `..`, as an absolute path,
            or through a link without `follow_links`.
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
    if not follow_links and not found.is_relative_to(base):
        message = f"'{name}' leaves {folder} through a link; set follow_links=true retry=[forbidden_address]"
        raise StageError("refused", "forbidden_address", message)
    if not found.is_file():
        raise StageError("refused", "gone", f"no file '{name}' in {folder}")
    return found
