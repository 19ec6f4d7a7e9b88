import numpy as np
import pytest
import torch
from PIL import Image

from wnv.evaluation.images import enlarge, error_map, to_u8, write_png


def test_bytes_are_rounded_and_clipped_with_channels_last():
    images = torch.tensor([-0.5, 0.0, 0.5, 1.0, 7.0])[:, None, None, None].expand(5, 3, 2, 4)
    u8 = to_u8(images)
    assert u8.shape == (5, 2, 4, 3)
    assert u8[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match="not finite"):
        to_u8(torch.full((3, 2, 2), float("nan")))


def test_small_images_are_enlarged_by_an_integer_factor_and_large_ones_not():
    assert enlarge(np.zeros((2, 3, 3), dtype=np.uint8), min_side=7).shape == (8, 12, 3)
    large = np.zeros((20, 30, 3), dtype=np.uint8)
    assert enlarge(large, min_side=20) is large


def test_error_map_is_black_where_equal_and_brightest_at_the_ceiling():
    truth = torch.zeros(3, 4, 6)
    rendered = truth.clone()
    rendered[:, :, 3:] = 0.5
    shown = error_map(rendered, truth, ceiling=0.5)
    assert shown.shape == truth.shape
    assert shown[:, :, :3].max() < 0.05
    assert shown[:, :, 3:].mean() > 0.7


def test_png_comes_back_and_is_not_overwritten(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = write_png(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)
    with pytest.raises(FileExistsError, match="overwrite=true"):
        write_png(path, picture)
    write_png(path, picture[::-1].copy(), overwrite=True)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture[::-1])
