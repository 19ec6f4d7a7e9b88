import numpy as np
import pytest
import torch
from torch.nn import functional

from wnv.evaluation.supersampling import merge_shifted_images, subpixel_shifts


@pytest.mark.parametrize(("patch_size", "factor"), [(8, 2), (8, 3), (8, 4), (14, 4), (7, 2), (16, 1)])
def test_shifts_are_spread_over_half_a_patch(patch_size, factor):
    shifts = subpixel_shifts(factor=factor, patch_size=patch_size)
    assert len(set(shifts)) == factor
    coarse = np.array(shifts) / factor
    assert np.abs(coarse).max() <= patch_size / 4
    assert abs(coarse.mean()) <= 0.5 / factor  # of a fine pixel, where an odd patch has no middle


def test_shifted_pictures_of_a_slope_merge_into_a_finer_slope():
    shifts = subpixel_shifts(factor=4, patch_size=8)
    y, x = (torch.arange(length, dtype=torch.float32) + 0.5 for length in (16, 24))
    rows = []
    for down in shifts:
        rows.append(torch.stack([((y[:, None] - down / 4) + 2 * (x - right / 4)) / 100 for right in shifts]))
    pictures = torch.stack(rows)[:, :, None].expand(4, 4, 3, 16, 24)
    merged = merge_shifted_images(pictures, shifts)
    fine_y, fine_x = ((torch.arange(length, dtype=torch.float32) + 0.5) / 4 for length in (64, 96))
    expected = (fine_y[:, None] + 2 * fine_x) / 100
    inside = (slice(None), slice(16, -16), slice(16, -16))  # beyond its edge an image continues with the edge's value
    assert torch.allclose(
        merged[inside], expected.expand(3, 64, 96)[inside], atol=2e-3
    )  # bicubic bends slopes a little
    plain = functional.interpolate(pictures[0, 0][None], scale_factor=4, mode="bicubic")[0]
    assert not torch.allclose(plain[inside], expected.expand(3, 64, 96)[inside], atol=2e-2)
