"""One picture of many: rows are scenes, columns what was given, what was there and what was drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from wnv.evaluation.images import enlarge, error_map, to_u8

BACKGROUND = (255, 255, 255)
INK = (32, 32, 32)
GAP_PX = 6
FONT_PX = 15
LINE_PX = FONT_PX + 8


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        image: RGB in 0..1.
        caption: Shown above the picture, for example `context 1` or `drawn 21.3 dB`; may be empty.
    """

    image: Float[Tensor, "3 height width"]
    caption: str = ""


def contact_sheet(
    rows: Sequence[Sequence[Cell]],
    *,
    row_titles: Sequence[str] | None = None,
    min_side: int = 160,
    method: Literal["nearest", "bicubic"] = "bicubic",
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Lay pictures out in a grid on white, each with its caption.

    Args:
        rows: The cells, row by row; rows may differ in length and pictures in size.
        row_titles: A line above each row, for example the scene's id.
        min_side: Small pictures are enlarged by a whole factor until their shorter side has this many pixels.
        method: How they are enlarged.

    Raises:
        ValueError: If there is no cell, or not one title a row.
    """
    if not any(len(row) for row in rows):
        raise ValueError("a contact sheet needs at least one picture, got none")
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"row_titles must have one title a row, got {len(row_titles)} for {len(rows)} rows")

    pictures = [[enlarge(to_u8(cell.image), min_side=min_side, method=method) for cell in row] for row in rows]
    num_columns = max(len(row) for row in pictures)
    widths = [max((row[i].shape[1] for row in pictures if i < len(row)), default=0) for i in range(num_columns)]
    heights = [max((picture.shape[0] for picture in row), default=0) for row in pictures]
    title_px = 0 if row_titles is None else LINE_PX
    width = sum(widths) + GAP_PX * (num_columns + 1)
    height = sum(heights) + len(rows) * (title_px + LINE_PX + GAP_PX) + GAP_PX

    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = GAP_PX
    for i, (row, row_pictures) in enumerate(zip(rows, pictures, strict=True)):
        if row_titles is not None:
            _write_line(draw, row_titles[i], left=GAP_PX, top=top, max_px=width - 2 * GAP_PX, bold=True)
        left, picture_top = GAP_PX, top + title_px + LINE_PX
        for cell, picture, column_px in zip(row, row_pictures, widths[: len(row)], strict=True):
            _write_line(draw, cell.caption, left=left, top=picture_top - LINE_PX, max_px=column_px)
            sheet.paste(Image.fromarray(picture), (left, picture_top))
            left += column_px + GAP_PX
        top = picture_top + heights[i] + GAP_PX
    return np.asarray(sheet)


def scene_row(
    *,
    context: Float[Tensor, "context 3 height width"],
    truth: Float[Tensor, "3 height width"],
    drawn: Float[Tensor, "3 height width"],
    copied: Float[Tensor, "3 height width"] | None = None,
    drawn_db: float | None = None,
    copied_db: float | None = None,
    max_context: int = 4,
    with_error: bool = False,
) -> list[Cell]:
    """The row of one target view: context ... | target | drawn | nearest copy | error.

    Args:
        context: The views that were given; of more than `max_context`, evenly spaced ones are shown.
        truth: The target view as it is.
        drawn: The target view as the model drew it.
        copied: The nearest context view, if it is to be shown.
        drawn_db: PSNR of `drawn`, shown in its caption.
        copied_db: PSNR of `copied`, shown in its caption.
        max_context: How many context views are shown at most.
        with_error: Whether an error map of `drawn` ends the row.
    """
    chosen = np.unique(np.linspace(0, len(context) - 1, min(max_context, len(context))).round().astype(int))
    row = [Cell(context[i], f"context {i + 1}" if len(context) > 1 else "context") for i in chosen.tolist()]
    row += [Cell(truth, "target"), Cell(drawn, _with_db("drawn", drawn_db))]
    if copied is not None:
        row.append(Cell(copied, _with_db("nearest", copied_db)))
    if with_error:
        row.append(Cell(error_map(drawn, truth), "error"))
    return row


def _with_db(caption: str, db: float | None) -> str:
    return caption if db is None else f"{caption} {db:.1f} dB"


def _write_line(draw: ImageDraw.ImageDraw, text: str, *, left: int, top: int, max_px: int, bold: bool = False) -> None:
    """Write one line, shortened with an ellipsis where it would run into its neighbour."""
    font = ImageFont.load_default(FONT_PX)
    shown = text
    while shown and draw.textlength(shown, font=font) > max_px:
        shown = shown.removesuffix("…")[:-1] + "…" if len(shown) > 2 else ""
    for shift in (0, 0.5) if bold else (0,):  # twice, half a pixel apart: the font has no bold
        draw.text((left + shift, top + 2), shown, fill=INK, font=font)
