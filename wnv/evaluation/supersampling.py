"""Supersampling: a fine image from coarse ones that are shifted by fractions of a patch.

A model renders best at the size it was trained on. The mean of several images of that size, with slightly shifted
cameras, is finer than each of them and shows no patch edges.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def subpixel_shifts(*, factor: int, patch_size: int) -> list[int]:
    """Shifts along one axis of the images that make up one finer by `factor`, in pixels of the fine image.

    They are spread evenly over half a patch, so that patch edges fall on different pixels.
    """
    return [round(patch_size / 2 * (i + 0.5 - factor / 2)) for i in range(factor)]


def merge_shifted_images(
    images: Float[Tensor, "row column 3 height width"], shifts: Sequence[int]
) -> Float[Tensor, "3 fine_height fine_width"]:
    """Average shifted images of one view into one that is finer by the number of shifts.

    Args:
        images: The view, moved down by shifts[row] and right by shifts[column] pixels of the fine image.
        shifts: See `subpixel_shifts`.
    """
    factor = len(shifts)
    height, width = (factor * length for length in images.shape[-2:])
    fine = functional.interpolate(
        images.flatten(0, 1), scale_factor=factor, mode="bicubic", align_corners=False
    ).unflatten(0, (factor, factor))
    total, count = torch.zeros(3, height, width), torch.zeros(1, height, width)
    for row, down in enumerate(shifts):
        for column, right in enumerate(shifts):
            to_rows, from_rows = _overlap(height, down)
            to_columns, from_columns = _overlap(width, right)
            total[:, to_rows, to_columns] += fine[row, column, :, from_rows, from_columns]
            count[:, to_rows, to_columns] += 1
    return (total / count).clamp(0, 1)


def shift_K(K: Float[Tensor, "*batch 3 3"], shifts: Sequence[float]) -> Float[Tensor, "*batch row column 3 3"]:
    """K of cameras whose images are moved down by shifts[row] and right by shifts[column] pixels."""
    shifted = K[..., None, None, :, :].repeat(*[1] * (K.dim() - 2), len(shifts), len(shifts), 1, 1)
    by = torch.tensor(shifts, dtype=K.dtype, device=K.device)
    shifted[..., 0, 2] += by[None, :]
    shifted[..., 1, 2] += by[:, None]
    return shifted


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """The overlap of an axis with itself shifted, as slices of the fixed and of the shifted axis."""
    return slice(max(0, -shift), length - max(0, shift)), slice(max(0, shift), length - max(0, -shift))
