import math

import pytest
import torch

from wnv.metrics.image import psnr, ssim
from wnv.metrics.masked import masked_psnr, masked_ssim


def images(seed: int, *, height: int = 18, width: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(2, 3, 3, height, width, generator=generator)
    return (truth + 0.2 * torch.randn(truth.shape, generator=generator)).clamp(0, 1), truth


def test_a_full_mask_gives_the_plain_metrics() -> None:
    rendered, truth = images(0)
    full = torch.ones(2, 3, 18, 24, dtype=torch.bool)
    torch.testing.assert_close(masked_psnr(rendered, truth, full), psnr(rendered, truth))
    torch.testing.assert_close(masked_ssim(rendered, truth, full), ssim(rendered, truth), rtol=0, atol=1e-5)


@pytest.mark.parametrize("metric", [masked_psnr, masked_ssim])
def test_what_lies_outside_the_mask_has_no_influence(metric) -> None:
    rendered, truth = images(1)
    mask = torch.zeros(2, 3, 18, 24, dtype=torch.bool)
    mask[..., 2:14, 5:20] = True
    mask[..., 6, 9] = False
    before = metric(rendered, truth, mask)
    spoilt = torch.where(mask[..., None, :, :], rendered, 1 - rendered)
    torch.testing.assert_close(metric(spoilt, truth, mask), before)
    assert (metric(truth, truth, mask) > before).all()


def test_masked_psnr_of_a_known_error() -> None:
    truth = torch.full((1, 3, 16, 24), 0.5)
    rendered = truth.clone()
    rendered[..., :8] += 0.1
    rendered[..., 8:] += 0.4
    mask = torch.zeros(1, 16, 24, dtype=torch.bool)
    mask[..., :8] = True
    assert masked_psnr(rendered, truth, mask).item() == pytest.approx(20.0, abs=1e-4)
    assert masked_psnr(truth, truth, mask).item() == 100.0


def slow_masked_ssim(one: torch.Tensor, other: torch.Tensor, mask: torch.Tensor) -> float:
    """One channel, window by window, in float64; each window's moments over its masked pixels."""
    position = torch.arange(11, dtype=torch.float64) - 5
    weights = torch.exp(-(position**2) / (2 * 1.5**2))
    window = torch.outer(weights, weights)
    values = []
    for row in range(5, one.shape[0] - 5):
        for column in range(5, one.shape[1] - 5):
            if not mask[row, column]:
                continue
            part = (slice(row - 5, row + 6), slice(column - 5, column + 6))
            share = window * mask[part]
            share = share / share.sum()
            x, y = one[part], other[part]
            mean_x, mean_y = (share * x).sum(), (share * y).sum()
            var_x, var_y = (share * x * x).sum() - mean_x**2, (share * y * y).sum() - mean_y**2
            covariance = (share * x * y).sum() - mean_x * mean_y
            luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
            values.append(luminance * (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2))
    return float(sum(values) / len(values))


def test_masked_ssim_equals_the_written_out_formula() -> None:
    rendered, truth = (part[0, :1] for part in images(2))
    mask = torch.rand(1, 18, 24, generator=torch.Generator().manual_seed(3)) < 0.6
    expected = (
        sum(slow_masked_ssim(rendered[0, i].double(), truth[0, i].double(), mask[0].double()) for i in range(3)) / 3
    )
    assert masked_ssim(rendered, truth, mask).item() == pytest.approx(expected, abs=1e-4)


def test_autocast_around_them_changes_no_masked_metric() -> None:
    """Smooth images, whose variances are small differences of the windows' means."""
    generator = torch.Generator().manual_seed(6)
    truth = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 5, generator=generator), size=(24, 32), mode="bilinear")
    rendered = (truth + 0.03 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    mask = torch.rand(2, 24, 32, generator=generator) < 0.6
    for metric in (masked_psnr, masked_ssim):
        expected = metric(rendered, truth, mask)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(metric(rendered, truth, mask), expected, rtol=0, atol=0)


def test_an_empty_mask_has_no_score() -> None:
    rendered, truth = images(4)
    mask = torch.zeros(2, 3, 18, 24, dtype=torch.bool)
    mask[0] = True
    mask[1, 0, 0, 0] = True  # too near the border for SSIM's window
    assert masked_psnr(rendered, truth, mask).isnan().sum() == 2
    assert masked_ssim(rendered, truth, mask).isnan().sum() == 3
    assert not math.isnan(masked_psnr(rendered, truth, mask)[1, 0])


def test_images_of_another_range_or_too_small_are_rejected() -> None:
    rendered, truth = images(5)
    full = torch.ones(2, 3, 18, 24, dtype=torch.bool)
    for metric in (masked_psnr, masked_ssim):
        with pytest.raises(ValueError, match=r"rendered must lie in 0\.\.1"):
            metric(rendered * 255, truth, full)
    with pytest.raises(ValueError, match="11 px"):
        masked_ssim(rendered[..., :8], truth[..., :8], full[..., :8])
