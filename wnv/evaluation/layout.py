"""What the folder of an evaluation holds to be looked at, and under which names."""

import re
from contextlib import suppress
from pathlib import Path

from wnv.evaluation.summary import SUMMARY_FILE

TABLE_FILE = "table.txt"
"""The summary as lines of text."""

SHEET_FILE = "sheet.png"
"""Some cases of the first variant, from the worst to the best."""

PICTURES_FOLDER = "pictures"
"""One picture a shown case, and where it was asked for a film."""

_PICTURE_NAME = re.compile(r"\d{6}-.+\.(png|mp4)")


def picture_stem(index: int, variant: str) -> str:
    """The name, without its ending, of the picture and the film of one case."""
    return f"{index:06d}-{variant.replace('/', '_') or 'all'}"


def picture_names(folder: Path) -> list[str]:
    """The pictures and films in the folder of an evaluation; nothing that somebody else has put beside them."""
    pictures = folder / PICTURES_FOLDER
    return [p.name for p in pictures.iterdir() if _PICTURE_NAME.fullmatch(p.name)] if pictures.is_dir() else []


def remove_outcome(folder: Path) -> None:
    """Take away what came of an evaluation whose records are to be replaced, before they are."""
    for name in (SUMMARY_FILE, TABLE_FILE, SHEET_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in picture_names(folder):
        (folder / PICTURES_FOLDER / name).unlink()
    with suppress(OSError):  # it is not there, or holds something else
        (folder / PICTURES_FOLDER).rmdir()
