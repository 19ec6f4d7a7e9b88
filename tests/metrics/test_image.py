import math
import sys
from types import SimpleNamespace

import pytest
import torch

from wnv.metrics import image
from wnv.metrics.image import LPIPS, psnr, ssim


def use_lpips(monkeypatch: pytest.MonkeyPatch, make: object) -> None:
    """Let `make` stand in for torchmetrics' LPIPS."""
    fake = SimpleNamespace(LearnedPerceptualImagePatchSimilarity=make)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", fake)


def test_psnr_of_a_known_error() -> None:
    truth = torch.full((2, 3, 3, 16, 24), 0.5)
    torch.testing.assert_close(psnr(truth + 0.1, truth), torch.full((2, 3), 20.0), rtol=1e-5, atol=0)
    assert psnr(truth[0, 0], truth[0, 0]) == 100.0


def test_psnr_is_of_each_image_and_not_of_their_pool() -> None:
    truth = torch.zeros(2, 3, 16, 24)
    rendered = torch.stack([truth[0] + 0.1, truth[1] + 0.01])
    torch.testing.assert_close(psnr(rendered, truth), torch.tensor([20.0, 40.0]), rtol=1e-5, atol=0)


def test_ssim_keeps_the_batch_axes_and_is_one_for_equal_images() -> None:
    truth = torch.rand(2, 3, 3, 12, 20)
    torch.testing.assert_close(ssim(truth, truth), torch.ones(2, 3))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_of_other_ranges_are_rejected(metric: object) -> None:
    truth = torch.rand(1, 3, 16, 24)
    with pytest.raises(ValueError, match=r"rendered must lie in 0\.\.1"):
        metric(truth * 2 - 1, truth)
    with pytest.raises(ValueError, match=r"truth must lie in 0\.\.1"):
        metric(truth, truth * 255)
    with pytest.raises(ValueError, match="rendered must be finite"):
        metric(truth * math.nan, truth)


def test_too_small_images_are_rejected_by_ssim() -> None:
    with pytest.raises(ValueError, match=r"11 px.*8 x 16"):
        ssim(torch.rand(1, 3, 8, 16), torch.rand(1, 3, 8, 16))


def test_autocast_around_them_changes_no_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation runs inside the autocast of the training, which would compute the windows of SSIM in bfloat16."""
    use_lpips(monkeypatch, _Correlation)
    truth = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 5), size=(24, 32), mode="bilinear")
    rendered = (truth + 0.03 * torch.randn(truth.shape)).clamp(0, 1)
    for metric in (psnr, ssim, LPIPS()):
        expected = metric(rendered, truth)
        assert expected.dtype == metric(rendered.bfloat16(), truth).dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(metric(rendered, truth), expected, rtol=0, atol=0)


class _MeanDistance:
    """Stands in for torchmetrics' LPIPS: the mean over a call, accumulated over calls."""

    def __init__(self, *, net_type: str, normalize: bool) -> None:
        assert normalize, "images in 0..1 must be rescaled to -1..1"
        self.calls = 0

    def to(self, device: torch.device) -> "_MeanDistance":
        return self

    def reset(self) -> None:
        self.calls = 0

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (one - other).abs().mean()


class _Correlation(_MeanDistance):
    """Another stand-in, with a product, which autocast rounds."""

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return one.flatten() @ other.flatten()


def test_lpips_is_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    use_lpips(monkeypatch, _MeanDistance)
    metric = image.LPIPS(backbone="vgg")
    truth = torch.zeros(1, 2, 3, 16, 24)
    rendered = truth.clone()
    rendered[0, 1] = 0.5
    torch.testing.assert_close(metric(rendered, truth), torch.tensor([[0.0, 0.5]]))
    assert metric.backbone == "vgg"
    assert metric._metric.calls == 0


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (ImportError("no torchvision"), ImportError, r"wnv\[perceptual\]"),
        (OSError("no network"), FileNotFoundError, "no network.*/vgg16-"),
        (RuntimeError("operator nms does not exist"), ImportError, "operator nms"),
    ],
)
def test_lpips_without_torchvision_or_weights(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[Exception], message: str
) -> None:
    def fail(**_settings: object) -> None:
        raise failure

    use_lpips(monkeypatch, fail)
    with pytest.raises(kind, match=message):
        LPIPS(backbone="vgg")


def test_lpips_rejects_other_backbones_and_images_that_are_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"lpips.*vgg.*'resnet'"):
        LPIPS(backbone="resnet")
    use_lpips(monkeypatch, _MeanDistance)
    small = torch.zeros(1, 3, 24, 64)
    with pytest.raises(ValueError, match=r"LPIPS \(alex\).*31 px.*24 x 64"):
        LPIPS(backbone="alex")(small, small)
