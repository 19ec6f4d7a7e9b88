"""Paths below an output root, and the split of a video.

Files in results are relative to the root, except a user's own videos, which are absolute.
"""

import hashlib
from typing import Literal, get_args

from wnv.scenes.schema import SceneKind, safe_id

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

LEDGER_FILE = "ledger.sqlite"
LOCK_FILE = "ledger.lock"
ROOT_ID_FILE = "root.id"
RATE_FILE = "fetch.rate"
REPORT_FILE = "report.html"
VIDEOS_FOLDER = "videos"
CLIPS_FOLDER = "clips"
SCENES_FOLDER = "scenes"


def split_of(key: str, *, val_fraction: float, test_fraction: float) -> Split:
    """Return the split of a video and all its clips, which depends on its key alone.

    Raises:
        ValueError: If a fraction is negative or nothing is left for training.
    """
    if val_fraction < 0 or test_fraction < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            "val_fraction and test_fraction must be at least 0 and together less than 1, got "
            f"{val_fraction} and {test_fraction}"
        )
    place = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    if place < val_fraction:
        return "val"
    return "test" if place < val_fraction + test_fraction else "train"


def video_file(key: str, part: int, suffix: str) -> str:
    """Return the path of a fetched part of a video, relative to the root."""
    return f"{VIDEOS_FOLDER}/{safe_id(key)}/{part:02d}{suffix}"


def clip_id(key: str, start_s: float) -> str:
    """Return the id of the clip that starts at this second of a video; also the id of its scene."""
    return safe_id(f"{safe_id(key)}_{round(start_s * 1000):09d}")


def clip_file(clip: str, *, kind: SceneKind, split: Split, suffix: str = ".mp4") -> str:
    """Return the path of a clip, relative to the root. Its poses are beside it, with suffix `.json`."""
    return f"{CLIPS_FOLDER}/{kind}/{split}/{clip}{suffix}"


def scene_folder(*, kind: SceneKind, split: Split) -> str:
    """Return the folder of the scene files of a kind and split, relative to the root."""
    return f"{SCENES_FOLDER}/{kind}/{split}"
