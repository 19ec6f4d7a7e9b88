"""The examples of an evaluation that the report shows, with their images and videos."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wnv.evaluation.contact_sheet import GAP_PX, LINE_PX
from wnv.evaluation.examples import MAX_CONTEXT
from wnv.evaluation.layout import PICTURES_FOLDER, picture_stem
from wnv.evaluation.records import SceneRecord
from wnv.pages.html import data_url
from wnv.pages.runs.run import Evaluation

_MAX_WIDTH = 1440  # pixels of an image with several parts
_MAX_PART_WIDTH = 360  # pixels of a part: half a phone's width at two dots per pixel
_QUALITY = 85
_MAX_VIDEO_BYTES = 2_000_000


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """An example with an image: its scores, and its rank (from 1) of `count`, from the lowest PSNR to the highest."""

    record: SceneRecord
    rank: int
    count: int
    role: str
    """`worst`, `median` or `best`; `lowest shown`, `between`, `highest shown` where those have no image."""
    image_file: Path

    def images(self) -> list[tuple[str, str]]:
        """Read the parts of the image, each with its role, as `data:` URLs; empty if it cannot be read.

        The roles are `context`, `target`, `rendered`, `nearest` and `error`; a single `all` if the image has other
        parts than `target_sheet` makes.
        """
        image = _open_image(self.image_file)
        if image is None:
            return []
        roles = ["context"] * min(self.record.num_context, MAX_CONTEXT) + ["target", "rendered", "nearest", "error"]
        width, rest = divmod(image.width - GAP_PX, len(roles))
        top = GAP_PX + LINE_PX  # below the scene's name, which the page shows itself
        if rest or image.height <= top + LINE_PX:
            return [("all", _embed(image, _MAX_WIDTH))]
        boxes = [(GAP_PX + i * width, top, (i + 1) * width, image.height - GAP_PX) for i in range(len(roles))]
        return [(role, _embed(image.crop(box), _MAX_PART_WIDTH)) for role, box in zip(roles, boxes, strict=True)]

    @property
    def video_file(self) -> Path | None:
        """Path of the video; None if there is none."""
        file = self.image_file.with_suffix(".mp4")
        return file if file.is_file() else None

    def video(self) -> str | None:
        """Read the video as a `data:` URL; None if there is none that is small enough."""
        file = self.video_file
        if file is None or file.stat().st_size > _MAX_VIDEO_BYTES:
            return None
        return data_url(file.read_bytes(), "video/mp4")


def extremes(evaluation: Evaluation, variant: str) -> list[ShownExample]:
    """The worst, the median and the best example, or the ones with an image that come closest."""
    shown = _shown_examples(evaluation, variant)
    if not shown:
        return []
    middle = (shown[0].count + 1) / 2
    between = sorted(shown[1:-1], key=lambda example: abs(example.rank - middle))[:1]
    return [*shown[:1], *between, *shown[1:][-1:]]


def shared_examples(evaluations: Sequence[Evaluation], variant: str, *, count: int) -> list[list[ShownExample]]:
    """Up to `count` examples of which every evaluation has an image, evenly spread over the data.

    Each is a list with one entry per evaluation.
    """
    shown = [{e.record.key: e for e in _shown_examples(evaluation, variant)} for evaluation in evaluations]
    shared = sorted(set.intersection(*map(set, shown)), key=lambda key: key[1]) if shown else []
    step = max(1, len(shared) - 1) / max(1, count - 1)
    chosen = dict.fromkeys(shared[min(round(i * step), len(shared) - 1)] for i in range(count) if shared)
    return [[examples[key] for examples in shown] for key in chosen]


def embed_image(file: Path) -> str | None:
    """Read an image as the `data:` URL of a JPEG, scaled down if it is wide; None if it cannot be read."""
    image = _open_image(file)
    return None if image is None else _embed(image, _MAX_WIDTH)


def _open_image(file: Path) -> Image.Image | None:
    try:
        with Image.open(file) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, SyntaxError):  # Pillow's errors for damaged files
        return None


def _embed(image: Image.Image, max_width: int) -> str:
    if image.width > max_width:
        image = image.resize((max_width, round(image.height * max_width / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return data_url(buffer.getvalue(), "image/jpeg")


def _shown_examples(evaluation: Evaluation, variant: str) -> list[ShownExample]:
    """The examples that have a PSNR and an image, from the lowest PSNR to the highest."""
    scores = [(record.mean("model", "psnr"), record) for record in evaluation.variant(variant)]
    scored = [(score, record) for score, record in scores if score is not None]
    ranked = [record for _, record in sorted(scored, key=lambda pair: pair[0])]
    files = {rank: _image_file(evaluation, record) for rank, record in enumerate(ranked, start=1)}
    shown = {rank: file for rank, file in files.items() if file.is_file()}
    return [
        ShownExample(
            record=ranked[rank - 1], rank=rank, count=len(ranked), role=_role(rank, len(ranked), shown), image_file=file
        )
        for rank, file in shown.items()
    ]


def _role(rank: int, count: int, shown: Mapping[int, Path]) -> str:
    if count == 1:
        return ""
    if rank in (1, count):
        return "worst" if rank == 1 else "best"
    if abs(rank - (count + 1) / 2) <= 0.5:
        return "median"
    return {min(shown): "lowest shown", max(shown): "highest shown"}.get(rank, "between")


def _image_file(evaluation: Evaluation, record: SceneRecord) -> Path:
    return evaluation.folder / PICTURES_FOLDER / f"{picture_stem(record.index, record.variant)}.png"
