"""Image quality: PSNR, SSIM and LPIPS, one value per image, for images in 0..1."""

import math
import os

import torch
from jaxtyping import Float
from torch import Tensor

# Interpolation and half precision exceed 0..1 slightly; images in -1..1 or 0..255 exceed it far.
_RANGE_TOLERANCE = 0.01
SSIM_WINDOW_PX = 11
# File names of the backbones' weights in torchvision, and the smallest images that survive their pooling.
_LPIPS_WEIGHTS = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
_LPIPS_LEAST_PX = {"vgg": 16, "alex": 31, "squeeze": 32}
LEAST_MSE = 1e-10  # PSNR of identical images is 100 dB rather than infinite, so that a mean stays finite


def psnr(
    rendered: Float[Tensor, "*batch 3 height width"], truth: Float[Tensor, "*batch 3 height width"]
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio of each image in dB for a peak of 1, at most 100; computed in float32.

    Raises:
        ValueError: If an image has values outside 0..1.
    """
    rendered, truth = check_images(rendered, "rendered"), check_images(truth, "truth")
    mse = (rendered - truth).square().flatten(-3).mean(-1)
    return -10.0 * mse.clamp_min(LEAST_MSE).log10()


def ssim(
    rendered: Float[Tensor, "*batch 3 height width"], truth: Float[Tensor, "*batch 3 height width"]
) -> Float[Tensor, "*batch"]:
    """Structural similarity of each image (Gaussian window of 11 px, sigma 1.5); computed in float32.

    The mean is over windows inside the image, as in scikit-image and published tables. (Recent torchmetrics also
    averages over mirrored borders, a difference of hundredths on small images.) Variances are population variances, as
    in Wang et al. 2004. scikit-image's default (`use_sample_covariance`), which pixelSplat and its successors use,
    multiplies them by 121/120 and gives values some ten-thousandths lower.

    Raises:
        ValueError: If an image has values outside 0..1 or is smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    from wnv.metrics.masked import masked_ssim

    rendered, truth = check_images(rendered, "rendered"), check_images(truth, "truth")
    check_ssim_size(rendered)
    if rendered.device.type != "cpu":
        # Accelerators round float32 convolutions to TF32 or HF32 by default; variances are small differences.
        return masked_ssim(rendered, truth, torch.ones_like(rendered[..., 0, :, :], dtype=torch.bool))
    height, width = rendered.shape[-2:]
    batch_shape = rendered.shape[:-3]
    with torch.autocast(rendered.device.type, enabled=False):  # variances are small differences
        _, values = structural_similarity_index_measure(
            rendered.reshape(-1, 3, height, width),
            truth.reshape(-1, 3, height, width),
            data_range=1.0,
            reduction="none",
            return_full_image=True,
        )
    border = SSIM_WINDOW_PX // 2
    return values[..., border : height - border, border : width - border].flatten(1).mean(-1).reshape(batch_shape)


class LPIPS:
    """Learned perceptual distance of each image (arXiv:1801.03924), through torchmetrics.

    Args:
        backbone: Feature network: `vgg`, `alex` or `squeeze`. Papers on novel view synthesis mostly report `vgg`;
            values of different backbones are not comparable.

    Raises:
        ImportError: If torchvision is not installed.
        FileNotFoundError: If the backbone's weights are neither cached nor downloadable.
        ValueError: If the backbone is unknown.
    """

    def __init__(self, *, backbone: str = "vgg") -> None:
        if backbone not in _LPIPS_WEIGHTS:
            raise ValueError(f"lpips must be one of {', '.join(_LPIPS_WEIGHTS)}, or null, got {backbone!r}")
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            self._metric = LearnedPerceptualImagePatchSimilarity(net_type=backbone, normalize=True)  # pyright: ignore[reportArgumentType]  # checked above
        except ImportError as error:
            raise ImportError(
                f"LPIPS ({backbone}) needs torchvision: pip install 'wnv[perceptual]', or leave LPIPS out"
            ) from error
        except RuntimeError as error:  # a torchvision built for another torch
            raise ImportError(
                f"LPIPS ({backbone}) needs torchvision, which does not load ({error}): install the version for this "
                "torch, or leave LPIPS out"
            ) from error
        except OSError as error:  # includes URLError
            cache = os.path.join(torch.hub.get_dir(), "checkpoints")
            raise FileNotFoundError(
                f"the weights of LPIPS ({backbone}) could not be downloaded ({error}): put "
                f"https://download.pytorch.org/models/{_LPIPS_WEIGHTS[backbone]} into {cache}, or leave LPIPS out"
            ) from error
        self.backbone = backbone

    @torch.no_grad()
    def __call__(
        self, rendered: Float[Tensor, "*batch 3 height width"], truth: Float[Tensor, "*batch 3 height width"]
    ) -> Float[Tensor, "*batch"]:
        """Distance of each image, 0 when equal; computed in float32.

        Raises:
            ValueError: If an image has values outside 0..1, or is too small for the backbone.
        """
        height, width = rendered.shape[-2:]
        if min(height, width) < _LPIPS_LEAST_PX[self.backbone]:
            raise ValueError(
                f"LPIPS ({self.backbone}) needs images of at least {_LPIPS_LEAST_PX[self.backbone]} px per side, got "
                f"{height} x {width}; choose another image_size, or leave LPIPS out"
            )
        batch_shape = rendered.shape[:-3]
        rendered, truth = check_images(rendered, "rendered").clamp(0, 1), check_images(truth, "truth").clamp(0, 1)
        metric = self._metric.to(rendered.device)
        images = zip(rendered.flatten(0, -4), truth.flatten(0, -4), strict=True)
        with torch.autocast(rendered.device.type, enabled=False):
            values = [metric(one[None], other[None]) for one, other in images]  # torchmetrics averages over a call
        metric.reset()
        return torch.stack(values).reshape(batch_shape)


def check_ssim_size(images: Float[Tensor, "*batch 3 height width"]) -> None:
    """Check that SSIM's window fits into the images.

    Raises:
        ValueError: If a side is shorter than the window.
    """
    height, width = images.shape[-2:]
    if min(height, width) < SSIM_WINDOW_PX:
        raise ValueError(f"ssim needs images of at least {SSIM_WINDOW_PX} px per side, got {height} x {width}")


def check_images(images: Tensor, name: str) -> Tensor:
    """Convert images to float32 and check their values.

    Args:
        images: Any shape.
        name: For error messages.

    Raises:
        ValueError: If values are not finite, or lie outside 0..1.
    """
    images = images.float()
    low, high = (value.item() for value in images.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} must be finite, got values from {low} to {high}")
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise ValueError(f"{name} must lie in 0..1, got values from {low:.3g} to {high:.3g}; rescale it first")
    return images
