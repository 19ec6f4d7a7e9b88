"""Which cases of an evaluation the report shows, and their pictures and films as they stand in the page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wnv.evaluation.layout import PICTURES_FOLDER, picture_stem
from wnv.evaluation.records import RecordKey, SceneRecord
from wnv.evaluation.report.runs import Evaluation
from wnv.pages.document import data_address

# Wider pictures are made smaller: a row of five at 256 pixels, and two dots a pixel on a telephone.
_MAX_WIDTH = 1440
_QUALITY = 85
_MAX_FILM_BYTES = 2_000_000
WORST, MEDIAN, BEST = "worst", "median", "best"


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A case as the page shows it.

    Attributes:
        record: What was measured.
        place: Its place from the lowest PSNR to the highest, from 1.
        count: How many there are.
        role: `worst`, `median`, `best`, or empty.
        picture: `data:` address of its picture.
        film: `data:` address of its film; None where there is none that is small enough.
        film_file: Where the film lies, if there is one.
    """

    record: SceneRecord
    place: int
    count: int
    role: str
    picture: str
    film: str | None = None
    film_file: Path | None = None


def ranked(evaluation: Evaluation, variant: str) -> list[SceneRecord]:
    """The examples of a variant from the lowest PSNR to the highest."""
    return sorted(evaluation.variant(variant), key=lambda record: record.mean("model", "psnr"))


def extremes(evaluation: Evaluation, variant: str) -> list[Exhibit]:
    """The worst, the median and the best example, as near as there are pictures of."""
    order = ranked(evaluation, variant)
    drawn = [place for place, record in enumerate(order) if _picture_file(evaluation, record) is not None]
    if not drawn:
        return []
    middle = (len(order) - 1) / 2
    between = sorted(drawn[1:-1], key=lambda place: abs(place - middle))[:1]
    roles = dict.fromkeys(drawn[-1:], BEST) | dict.fromkeys(between, MEDIAN) | dict.fromkeys(drawn[:1], WORST)
    return [_exhibit(evaluation, order, place, role=roles[place]) for place in sorted(roles)]


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


def embed_picture(file: Path) -> str:
    """A picture as the `data:` address of a JPEG, made smaller where it is wide.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        image = Image.open(file).convert("RGB")
    except OSError as error:
        raise ValueError(f"{file} is not a picture that can be read: {error}") from error
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
    film = picture.with_suffix(".mp4")
    film_file = film if film.is_file() else None
    is_small = film_file is not None and film.stat().st_size <= _MAX_FILM_BYTES
    return Exhibit(
        record=record,
        place=place + 1,
        count=len(order),
        role=role,
        picture=embed_picture(picture),
        film=data_address(film.read_bytes(), "video/mp4") if is_small else None,
        film_file=film_file,
    )


def _picture_file(evaluation: Evaluation, record: SceneRecord) -> Path | None:
    file = evaluation.folder / PICTURES_FOLDER / f"{picture_stem(record.index, record.variant)}.png"
    return file if file.is_file() else None
