"""Where things lie under an output root, and on which side of the split a video stands."""

import hashlib
from pathlib import Path
from typing import Literal, get_args

from wnv.scenes.schema import SceneKind, safe_id

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

LEDGER_FILE = "ledger.sqlite"
LOCK_FILE = "ledger.lock"
REPORT_FILE = "report.html"
VIDEOS_FOLDER = "videos"
CLIPS_FOLDER = "clips"
SCENES_FOLDER = "scenes"


def split_of(key: str, *, val_fraction: float, test_fraction: float) -> Split:
    """The side of the split that a video, and so every clip of it, belongs to: a matter of its key alone.

    Raises:
        ValueError: If a fraction is negative or they leave nothing to train on.
    """
    if val_fraction < 0 or test_fraction < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            "val_fraction and test_fraction must be at least 0 and together less than 1, got "
            f"{val_fraction} and {test_fraction}"
        )
    draw = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    if draw < val_fraction:
        return "val"
    return "test" if draw < val_fraction + test_fraction else "train"


def video_file(key: str, part: int, suffix: str) -> str:
    """Path of a fetched part of a video, relative to the root."""
    return f"{VIDEOS_FOLDER}/{safe_id(key)}/{part:02d}{suffix}"


def clip_id(key: str, start_s: float) -> str:
    """Name of the clip of a video that starts at a second of it; also the id of the scene made of it."""
    return safe_id(f"{safe_id(key)}_{round(start_s * 1000):09d}")


def clip_file(clip: str, *, kind: SceneKind, split: Split) -> str:
    """Path of a clip, relative to the root; its poses lie beside it, with `.json` for `.mp4`."""
    return f"{CLIPS_FOLDER}/{kind}/{split}/{clip}.mp4"


def scene_folder(*, kind: SceneKind, split: Split) -> str:
    """Folder of the scene files of one kind and side, relative to the root."""
    return f"{SCENES_FOLDER}/{kind}/{split}"


def absolute(root: Path, file: str) -> Path:
    """The path of a file that a result names: relative to the root, or absolute for a user's own video."""
    return root / file
