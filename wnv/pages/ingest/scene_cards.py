"""The scenes that the ingest report shows: their selection, thumbnails and camera paths."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from wnv.pages.html import data_url
from wnv.pages.ingest.facts import SceneEntry
from wnv.scenes.archive import Archive
from wnv.scenes.image_codec import image_header
from wnv.scenes.scene_json import info_from_json
from wnv.scenes.schema import SCENE_JSON, SceneError, SceneInfo

# About the width of a thumbnail on a screen of two dots per pixel; it takes 4 to 12 kB at this quality.
_LONG_SIDE = 256
_QUALITY = 68
# A thumbnail of pure noise takes this much; larger ones are left out, so that the page stays small.
_MAX_BYTES = 32_000


@dataclass(frozen=True, eq=False, kw_only=True)
class SceneCard:
    """A scene as the page shows it, without cameras and size if its file cannot be read."""

    entry: SceneEntry
    thumbnails: Sequence[str] = ()
    """Up to four frames in order of time, as `data:` URLs."""
    camtoworld: Float64[np.ndarray, "frame 4 4"] | None = None
    width: int = 0
    height: int = 0
    scale: float | None = None
    """Meters per scene unit."""
    problem: str = ""
    """Why something is missing."""


def choose(scenes: Sequence[SceneEntry], *, most: int, seed: int) -> list[SceneEntry]:
    """Sample at most `most` scenes, evenly from every kind and split.

    The sample depends on seed and ids alone. A video gives a second scene only after all others gave one.
    """
    shuffled = sorted(scenes, key=lambda entry: hashlib.sha256(f"{seed}:{entry.id}".encode()).digest())
    groups: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for index, entry in enumerate(shuffled):
        groups[entry.kind, entry.split].append((seen[entry.key], index))
        seen[entry.key] += 1
    # (turn, group, index): the first of every group, then the second of every group, and so on.
    turns = sorted(
        (turn, name, index) for name, group in groups.items() for turn, (_, index) in enumerate(sorted(group))
    )
    return [shuffled[index] for _, index in sorted((name, index) for _, name, index in turns[:most])]


def read_card(root: Path, entry: SceneEntry) -> SceneCard:
    """Read a scene's cameras and thumbnails; `problem` names what cannot be read."""
    try:
        archive = Archive(root / entry.file)
        info = info_from_json(archive.read(SCENE_JSON), name=entry.id)
    except FileNotFoundError:
        return SceneCard(entry=entry, problem=f"{entry.file} is missing; the next run makes it again")
    except (SceneError, KeyError, OSError) as error:
        return SceneCard(entry=entry, problem=_damaged(entry, entry.file, error))
    thumbnails: list[str] = []
    problem = ""
    # From the middle of each part of the scene: first and last frames are often the dullest.
    count = min(4 if info.width >= info.height else 3, len(info.frames))
    try:
        for index in ((2 * np.arange(count) + 1) * len(info.frames) // (2 * count)).tolist():
            jpeg = _thumbnail(archive, info, index)
            if len(jpeg) <= _MAX_BYTES:
                thumbnails.append(data_url(jpeg, "image/jpeg"))
    except (SceneError, KeyError, OSError) as error:
        problem = _damaged(entry, f"a frame of {entry.file}", error)
    return SceneCard(
        entry=entry,
        thumbnails=thumbnails,
        camtoworld=info.camtoworld,
        width=info.width,
        height=info.height,
        scale=info.scale,
        problem=problem,
    )


def _damaged(entry: SceneEntry, what: str, error: Exception) -> str:
    return f"{what} cannot be read ({error}); redo=[pack] keys=[{entry.key}] makes it again"


def _thumbnail(archive: Archive, info: SceneInfo, index: int) -> bytes:
    file = info.frames[index].file
    data = archive.read(file)
    image_header(data, where=file)  # rejects images that would fill the memory
    try:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (_LONG_SIDE, _LONG_SIDE))  # decodes a JPEG at a fraction of its size
        image = image.convert("RGB")
    except Exception as error:  # decoders raise anything on damaged data
        raise SceneError(f"{file}: the image is truncated or damaged ({error})") from error
    image.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return buffer.getvalue()
