"""The scenes that the report shows: which ones, their thumbnails, and their camera paths."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from wnv.ingest.layout import absolute
from wnv.pages.document import data_address
from wnv.pages.ingest.facts import SceneEntry
from wnv.scenes.archive import Archive
from wnv.scenes.image_codec import image_header
from wnv.scenes.scene_json import info_from_json
from wnv.scenes.schema import SCENE_JSON, SceneError, SceneInfo

THUMBNAILS_A_SCENE = 4
# On a screen of two dots a pixel a thumbnail is about this wide; at this quality it takes 4 to 12 kB.
_LONG_SIDE = 256
_QUALITY = 68
# A picture of noise takes this much; one that takes more is left out, so that the page stays small whatever it shows.
_MAX_BYTES = 32_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Exhibit:
    """A scene as the page shows it.

    Attributes:
        entry: What the ledger knows.
        thumbnails: A few frames in order of time, as `data:` addresses.
        camtoworld: The cameras; None where the file could not be read.
        width: Of the scene's images, in pixels; 0 where the file could not be read.
        height: Likewise.
        scale: Metres in a scene unit, where known.
        problem: Why something is missing; empty where nothing is.
    """

    entry: SceneEntry
    thumbnails: tuple[str, ...] = ()
    camtoworld: Float64[np.ndarray, "frame 4 4"] | None = None
    width: int = 0
    height: int = 0
    scale: float | None = None
    problem: str = ""


def choose(scenes: Sequence[SceneEntry], *, most: int, seed: int) -> list[SceneEntry]:
    """Some of the scenes, drawn by lot, evenly from every kind and side of the split as far as they go.

    Seed and ids settle the lot. A second scene of a video comes after the first ones of all others.
    """
    drawn = sorted(scenes, key=lambda entry: hashlib.sha256(f"{seed}:{entry.id}".encode()).digest())
    groups: dict[tuple[str, str], list[tuple[int, SceneEntry]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for entry in drawn:
        groups[(entry.kind, entry.split)].append((seen[entry.key], entry))
        seen[entry.key] += 1
    queues = [sorted(group, key=lambda pair: pair[0])[::-1] for _, group in sorted(groups.items())]
    chosen: list[SceneEntry] = []
    while len(chosen) < most and any(queues):
        for queue in queues:
            if queue and len(chosen) < most:
                chosen.append(queue.pop()[1])
    order = {id(entry): number for number, entry in enumerate(drawn)}
    return sorted(chosen, key=lambda entry: (entry.kind, entry.split, order[id(entry)]))


def exhibit(root: Path, entry: SceneEntry) -> Exhibit:
    """Read what is shown of a scene; what cannot be read is said in `problem`."""
    path = absolute(root, entry.file)
    try:
        archive = Archive(path)
        info = info_from_json(archive.read(SCENE_JSON), name=entry.id)
    except FileNotFoundError:
        return Exhibit(entry=entry, problem=f"{entry.file} is gone: the next run makes it anew")
    except (SceneError, KeyError, OSError) as error:
        return Exhibit(entry=entry, problem=f"{entry.file} cannot be read: {_anew(entry)} ({error})")
    thumbnails, problem = _thumbnails(archive, info, entry)
    return Exhibit(
        entry=entry,
        thumbnails=thumbnails,
        camtoworld=info.camtoworld,
        width=info.width,
        height=info.height,
        scale=info.scale,
        problem=problem,
    )


def _anew(entry: SceneEntry) -> str:
    return f"redo=[pack] keys=[{entry.key}] makes it anew"


def _thumbnails(archive: Archive, info: SceneInfo, entry: SceneEntry) -> tuple[tuple[str, ...], str]:
    # From the middle of each quarter of the scene: first and last frames are often the dullest.
    most = THUMBNAILS_A_SCENE if info.width >= info.height else 3  # what fills a wide place best
    count = min(most, len(info.frames))
    found: list[str] = []
    for index in ((2 * np.arange(count) + 1) * len(info.frames) // (2 * count)).tolist():
        file = info.frames[index].file
        try:
            jpeg = _thumbnail(archive.read(file), where=file)
        except (SceneError, KeyError, OSError) as error:
            return tuple(found), f"a frame of {entry.file} cannot be read: {_anew(entry)} ({error})"
        if len(jpeg) <= _MAX_BYTES:
            found.append(data_address(jpeg, "image/jpeg"))
    return tuple(found), ""


def _thumbnail(data: bytes, *, where: str) -> bytes:
    image_header(data, where=where)  # refuses what would fill the memory
    try:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (_LONG_SIDE, _LONG_SIDE))  # a JPEG is decoded at an eighth, a quarter or half of its size
        image = image.convert("RGB")
    except Exception as error:  # a decoder fed broken bytes may raise anything
        raise SceneError(f"{where}: the image is truncated or damaged ({error})") from error
    image.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return buffer.getvalue()
