"""Names of the files in an evaluation folder that are made for looking at."""

import re
from contextlib import suppress
from pathlib import Path

from wnv.evaluation.summary import SUMMARY_FILE

TABLE_FILE = "table.txt"
"""The summary as a text table."""

SHEET_FILE = "sheet.png"
"""A contact sheet of the first variant, from the worst to the best example."""

PICTURES_FOLDER = "pictures"
"""One image per shown example, and its video if the protocol makes one."""

IMAGES_FOLDER = "images"
"""Every rendered target and its ground truth, see `SavedImages`."""

_PICTURE_NAME = re.compile(r"\d{6}-.+\.(png|mp4)")


def picture_stem(index: int, variant: str) -> str:
    """The file name of an example's image and video, without suffix."""
    return f"{index:06d}-{variant.replace('/', '_') or 'all'}"


def picture_names(folder: Path) -> list[str]:
    """The images and videos that an evaluation wrote to its folder; other files are ignored."""
    pictures = folder / PICTURES_FOLDER
    return [p.name for p in pictures.iterdir() if _PICTURE_NAME.fullmatch(p.name)] if pictures.is_dir() else []


def remove_results(folder: Path) -> None:
    """Delete summary, table and images of an evaluation before its records are replaced; other files stay."""
    for name in (SUMMARY_FILE, TABLE_FILE, SHEET_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in picture_names(folder):
        (folder / PICTURES_FOLDER / name).unlink()
    with suppress(OSError):  # the folder does not exist or holds other files
        (folder / PICTURES_FOLDER).rmdir()
    images = folder / IMAGES_FOLDER
    for file in images.glob("*/**/color/[0-9]*.png"):
        file.unlink()
    for path in sorted(images.glob("**/"), reverse=True):  # subfolders first
        with suppress(OSError):
            path.rmdir()
