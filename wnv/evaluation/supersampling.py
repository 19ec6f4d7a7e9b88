"""A fine picture from coarse ones that are shifted by parts of a patch.

A model knows pictures of the size that it was trained on; at another one it draws worse, or something else. The mean of
several of the known size, whose cameras look a little aside, is finer than each, and without the edges of patches.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def subpixel_shifts(*, factor: int, patch_size: int) -> list[int]:
    """By how much the pictures are shifted that make up one finer by `factor`, along an axis, in its pixels.

    They are spread evenly over half a patch, so that the edges of their patches fall on different places.
    """
    return [round(patch_size / 2 * (i + 0.5 - factor / 2)) for i in range(factor)]


def merge_shifted_images(
    pictures: Float[Tensor, "row column 3 height width"], shifts: Sequence[int]
) -> Float[Tensor, "3 fine_height fine_width"]:
    """The mean of shifted pictures of one view, finer than they are by the number of shifts.

    Args:
        pictures: What the view shows, moved down by shifts[row] and right by shifts[column] pixels of the fine picture.
        shifts: In pixels of the fine picture, as `subpixel_shifts` gives them.
    """
    factor = len(shifts)
    height, width = (factor * length for length in pictures.shape[-2:])
    fine = functional.interpolate(
        pictures.flatten(0, 1), scale_factor=factor, mode="bicubic", align_corners=False
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
    """K of cameras whose pictures are moved down by the shift of their row and right by that of their column."""
    shifted = K[..., None, None, :, :].repeat(*[1] * (K.dim() - 2), len(shifts), len(shifts), 1, 1)
    by = torch.tensor(shifts, dtype=K.dtype, device=K.device)
    shifted[..., 0, 2] += by[None, :]
    shifted[..., 1, 2] += by[:, None]
    return shifted


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Where a line that was moved on by `shift` lies on the one it was, and which of its pixels those are."""
    return slice(max(0, -shift), length - max(0, shift)), slice(max(0, shift), length - max(0, -shift))
