"""Which cases of an evaluation the report shows, and their pictures and films as they stand in the page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wnv.evaluation.layout import PICTURES_FOLDER, picture_stem
from wnv.evaluation.records import RecordKey, SceneRecord
from wnv.pages.document import data_address
from wnv.pages.runs.runs import Evaluation

# Wider pictures are made smaller: a row of five at 256 pixels, and two dots a pixel on a telephone.
_MAX_WIDTH = 1440
_QUALITY = 85
_MAX_FILM_BYTES = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A case as the page shows it.

    Attributes:
        record: What was measured.
        place: Its place from the lowest PSNR to the highest, from 1.
        count: How many there are.
        role: `worst`, `median`, `best`; `lowest shown` and `highest shown` where there are no pictures of these.
        picture_file: Where its picture lies.
    """

    record: SceneRecord
    place: int
    count: int
    role: str
    picture_file: Path

    def picture(self) -> str | None:
        """The `data:` address of its picture, made now; None if the file cannot be read."""
        return embed_picture(self.picture_file)

    @property
    def film_file(self) -> Path | None:
        """Where its film lies, if there is one."""
        film = self.picture_file.with_suffix(".mp4")
        return film if film.is_file() else None

    def film(self) -> str | None:
        """The `data:` address of its film, made now; None where there is none that is small enough."""
        film = self.film_file
        if film is None or film.stat().st_size > _MAX_FILM_BYTES:
            return None
        return data_address(film.read_bytes(), "video/mp4")


def ranked(evaluation: Evaluation, variant: str) -> list[SceneRecord]:
    """The examples of a variant that have a PSNR, from the lowest to the highest."""
    scores = [(record.mean("model", "psnr"), record) for record in evaluation.variant(variant)]
    measured = [(score, record) for score, record in scores if score is not None]
    return [record for _, record in sorted(measured, key=lambda pair: pair[0])]


def extremes(evaluation: Evaluation, variant: str) -> list[Exhibit]:
    """The worst, the median and the best example, as near as there are pictures of."""
    order = ranked(evaluation, variant)
    drawn = [place for place, record in enumerate(order) if _picture_file(evaluation, record) is not None]
    middle = (len(order) - 1) / 2
    between = sorted(drawn[1:-1], key=lambda place: abs(place - middle))[:1]
    chosen = sorted({*drawn[:1], *between, *drawn[-1:]})
    return [_exhibit(evaluation, order, place, role=_role(place, order, drawn)) for place in chosen]


def _role(place: int, order: Sequence[SceneRecord], drawn: Sequence[int]) -> str:
    if len(order) == 1:
        return ""
    last = len(order) - 1
    if place in (0, last):
        return "worst" if place == 0 else "best"
    if abs(place - last / 2) <= 0.5:
        return "median"
    return {drawn[0]: "lowest shown", drawn[-1]: "highest shown"}.get(place, "between")


def shared_cases(evaluations: Sequence[Evaluation], variant: str, *, count: int) -> list[list[Exhibit]]:
    """Cases of which every evaluation has a picture, evenly spread over the data; each as one exhibit an evaluation."""
    orders = [ranked(evaluation, variant) for evaluation in evaluations]
    places = [{record.key: place for place, record in enumerate(order)} for order in orders]
    drawn: list[set[RecordKey]] = [
        {record.key for record in order if _picture_file(evaluation, record) is not None}
        for evaluation, order in zip(evaluations, orders, strict=True)
    ]
    common = sorted(set.intersection(*drawn), key=lambda key: key[1]) if drawn else []
    step = max(1, len(common) - 1) / max(1, count - 1)
    chosen = dict.fromkeys(common[min(round(i * step), len(common) - 1)] for i in range(count) if common)
    return [
        [
            _exhibit(evaluation, order, where[key])
            for evaluation, order, where in zip(evaluations, orders, places, strict=True)
        ]
        for key in chosen
    ]


def embed_picture(file: Path) -> str | None:
    """A picture as the `data:` address of a JPEG, made smaller where it is wide; None if it cannot be read."""
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for a PNG that is cut off or none
        return None
    if image.width > _MAX_WIDTH:
        image = image.resize((_MAX_WIDTH, round(image.height * _MAX_WIDTH / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return data_address(buffer.getvalue(), "image/jpeg")


def _exhibit(evaluation: Evaluation, order: Sequence[SceneRecord], place: int, *, role: str = "") -> Exhibit:
    record = order[place]
    picture = _picture_file(evaluation, record)
    if picture is None:
        raise ValueError(f"{evaluation.folder} has no picture of example {record.index}")
    return Exhibit(record=record, place=place + 1, count=len(order), role=role, picture_file=picture)


def _picture_file(evaluation: Evaluation, record: SceneRecord) -> Path | None:
    file = evaluation.folder / PICTURES_FOLDER / f"{picture_stem(record.index, record.variant)}.png"
    return file if file.is_file() else None
