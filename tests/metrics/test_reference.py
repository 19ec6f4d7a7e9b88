"""Metrics against independent code: scikit-image, and the LPIPS authors' package if torchvision is installed."""

import importlib.util

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wnv.metrics.image import LPIPS, psnr, ssim


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth and noisy images of several contrasts, height unlike width."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 5, 7, generator=generator)
    truth = torch.nn.functional.interpolate(coarse, size=(40, 56), mode="bicubic").clamp(0, 1)
    noise = torch.tensor([0.01, 0.05, 0.2, 0.5])[:, None, None, None]
    rendered = (truth + noise * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    return rendered, truth


def test_psnr_and_ssim_are_those_of_scikit_image() -> None:
    rendered, truth = pictures()
    for i, (found_psnr, found_ssim) in enumerate(zip(psnr(rendered, truth), ssim(rendered, truth), strict=True)):
        one, other = (images[i].permute(1, 2, 0).double().numpy() for images in (rendered, truth))
        assert found_psnr.item() == pytest.approx(peak_signal_noise_ratio(other, one, data_range=1.0), abs=1e-4)
        options = dict(data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5)
        expected = structural_similarity(other, one, use_sample_covariance=False, **options)
        # scikit-image leaves out a border of the window's radius, as we do.
        assert found_ssim.item() == pytest.approx(expected, abs=1e-5)
        assert np.isfinite(expected)
        assert 0 <= expected - structural_similarity(other, one, **options) < 1e-3


@pytest.mark.parametrize("backbone", ["vgg", "alex"])
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torchvision", "lpips")),
    reason="needs torchvision, and the LPIPS authors' package lpips",
)
def test_lpips_is_that_of_its_authors(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both use one random backbone, whose weights would be a download; the learnt layers come with the packages."""
    import lpips
    import torchvision

    name = {"vgg": "vgg16", "alex": "alexnet"}[backbone]
    make = getattr(torchvision.models, name)

    def make_random(*_args: object, **_settings: object) -> torch.nn.Module:
        torch.manual_seed(0)
        return make(weights=None)

    monkeypatch.setattr(torchvision.models, name, make_random)
    reference = lpips.LPIPS(net=backbone, verbose=False)
    rendered, truth = pictures()
    expected = reference(rendered * 2 - 1, truth * 2 - 1).flatten()
    torch.testing.assert_close(LPIPS(backbone=backbone)(rendered, truth), expected, rtol=1e-4, atol=1e-6)
