"""A contact sheet: images in a grid, each with a caption."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from wnv.evaluation.images import enlarge, to_u8

BACKGROUND = (255, 255, 255)
INK = (32, 32, 32)
GAP_PX = 6
FONT_PX = 15
LINE_PX = FONT_PX + 8


@dataclass(frozen=True)
class Cell:
    """One image of a contact sheet, RGB in 0..1, and the caption above it, e.g. `rendered 21.3 dB`."""

    image: Float[Tensor, "3 height width"]
    caption: str = ""


def contact_sheet(
    rows: Sequence[Sequence[Cell]], *, row_titles: Sequence[str] | None = None, min_side: int = 160
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Arrange images in a grid on white; rows may differ in length and images in size.

    Args:
        rows: The cells of each row.
        row_titles: A line above each row, for example the scene's id.
        min_side: Small images are enlarged by an integer factor until their shorter side has this many pixels.
    """
    images = [[enlarge(to_u8(cell.image), min_side=min_side) for cell in row] for row in rows]
    num_columns = max(len(row) for row in images)
    widths = [max((row[i].shape[1] for row in images if i < len(row)), default=0) for i in range(num_columns)]
    heights = [max((image.shape[0] for image in row), default=0) for row in images]
    title_px = 0 if row_titles is None else LINE_PX
    width = sum(widths) + GAP_PX * (num_columns + 1)
    height = sum(heights) + len(rows) * (title_px + LINE_PX + GAP_PX) + GAP_PX

    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = GAP_PX
    for i, (row, row_images) in enumerate(zip(rows, images, strict=True)):
        if row_titles is not None:
            _write_line(draw, row_titles[i], left=GAP_PX, top=top, max_px=width - 2 * GAP_PX, bold=True)
        left, image_top = GAP_PX, top + title_px + LINE_PX
        for cell, image, column_px in zip(row, row_images, widths[: len(row)], strict=True):
            _write_line(draw, cell.caption, left=left, top=image_top - LINE_PX, max_px=column_px)
            sheet.paste(Image.fromarray(image), (left, image_top))
            left += column_px + GAP_PX
        top = image_top + heights[i] + GAP_PX
    return np.asarray(sheet)


def _write_line(draw: ImageDraw.ImageDraw, text: str, *, left: int, top: int, max_px: int, bold: bool = False) -> None:
    """Write one line, shortened with an ellipsis if it is too wide."""
    font = ImageFont.load_default(FONT_PX)
    shown = text
    while shown and draw.textlength(shown, font=font) > max_px:
        shown = shown.removesuffix("…")[:-1] + "…" if len(shown) > 2 else ""
    for shift in (0, 0.5) if bold else (0,):  # twice, half a pixel apart: the font has no bold
        draw.text((left + shift, top + 2), shown, fill=INK, font=font)
