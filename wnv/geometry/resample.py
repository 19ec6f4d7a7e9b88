"""Resize and crop images to a given size, and update K."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from wnv.geometry.cameras import crop_K, scale_K


@dataclass(frozen=True)
class Window:
    """A crop of whole pixels and its scaling to a new image size.

    Whole pixels allow cropping in the decoder. The last of them may be visible in part.

    Attributes:
        left: First column.
        top: First row.
        right: Column after the last.
        bottom: Row after the last.
        scale: New pixels per old pixel, along both axes.
        height: Height of the new image in pixels.
        width: Width of the new image in pixels.
    """

    left: int
    top: int
    right: int
    bottom: int
    scale: float
    height: int
    width: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in old pixels; right and bottom are exclusive."""
        return self.left, self.top, self.right, self.bottom

    def fit_K(self, K: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
        """Convert K of the old image to K of the new one, exactly."""
        return scale_K(crop_K(K, left=self.left, top=self.top), scale_x=self.scale, scale_y=self.scale)

    def resample(self, part: UInt8[Tensor, "part_height part_width 3"]) -> UInt8[Tensor, "3 height width"]:
        """Resize the crop (the pixels of `box`) to the new size.

        Bilinear and antialiased, in uint8: several times faster than in floats, with a rounding error of at most one
        level of 255.
        """
        image = part.permute(2, 0, 1)
        if self.scale == 1:
            return image[:, : self.height, : self.width]
        # The tiny excess prevents whole sizes from being rounded down.
        fitted = torch.nn.functional.interpolate(
            image[None], scale_factor=self.scale * (1 + 1e-7), mode="bilinear", antialias=True
        )
        return fitted[0, :, : self.height, : self.width]


def cover_window(old_height: int, old_width: int, *, height: int, width: int, zoom: float | int = 1.0) -> Window:
    """Scale an image to cover (height, width), cut out the centre, and magnify it `zoom` times.

    Both axes have one scale. The crop starts at the nearest whole pixel, so the centre moves by at most half an old
    pixel; K accounts for that.

    Args:
        old_height: Height of the image in pixels.
        old_width: Width of the image in pixels.
        height: Wanted height in pixels.
        width: Wanted width in pixels.
        zoom: At least 1; 1 is the largest crop.

    Raises:
        ValueError: If the zoom is below 1 or a size is not positive.
    """
    if height < 1 or width < 1:
        raise ValueError(f"image size must be positive, got height {height} and width {width}")
    if not 1 <= zoom < math.inf:
        raise ValueError(f"zoom must be at least 1, got {zoom}")
    scale = float(zoom * max(width / old_width, height / old_height))
    left, right = _whole_pixels(old_width, width / scale)
    top, bottom = _whole_pixels(old_height, height / scale)
    return Window(left=left, top=top, right=right, bottom=bottom, scale=scale, height=height, width=width)


def _whole_pixels(old_size: int, extent: float) -> tuple[int, int]:
    """First pixel and end of the middle `extent` pixels of a side; half pixels round to the left."""
    start = math.ceil((old_size - extent) / 2 - 0.5 - 1e-9)
    return start, start + math.ceil(extent - 1e-9)
