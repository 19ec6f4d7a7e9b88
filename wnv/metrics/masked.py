"""Image quality within a mask, such as of pixels visible in the context (after DyCheck, arXiv:2210.13445)."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wnv.metrics.image import LEAST_MSE, SSIM_WINDOW_PX, check_images, check_ssim_size

_SSIM_SIGMA_PX = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 of Wang et al. 2004, at a range of L = 1


def masked_psnr(
    rendered: Float[Tensor, "*batch 3 height width"],
    truth: Float[Tensor, "*batch 3 height width"],
    mask: Bool[Tensor, "*batch height width"],
) -> Float[Tensor, "*batch"]:
    """PSNR of each image over the masked pixels, in dB, at most 100; NaN where the mask is empty.

    Raises:
        ValueError: If an image has values outside 0..1.
    """
    rendered, truth = check_images(rendered, "rendered"), check_images(truth, "truth")
    weight = mask.float()
    squared = (rendered - truth).square().mean(-3)
    mse = (squared * weight).sum((-1, -2)) / weight.sum((-1, -2))
    return -10.0 * mse.clamp_min(LEAST_MSE).log10()


def masked_ssim(
    rendered: Float[Tensor, "*batch 3 height width"],
    truth: Float[Tensor, "*batch 3 height width"],
    mask: Bool[Tensor, "*batch height width"],
) -> Float[Tensor, "*batch"]:
    """SSIM of each image over the masked pixels; NaN if no masked pixel has its window inside the image.

    Means and variances of a window are taken over its masked pixels (partial convolutions), so other pixels have no
    influence. With a full mask the result equals `wnv.metrics.image.ssim`.

    Raises:
        ValueError: If an image has values outside 0..1 or is smaller than the window.
    """
    rendered, truth = check_images(rendered, "rendered"), check_images(truth, "truth")
    check_ssim_size(rendered)
    height, width = rendered.shape[-2:]
    x, y = rendered.reshape(-1, 3, height, width), truth.reshape(-1, 3, height, width)
    weight = mask.reshape(-1, 1, height, width).float()
    total = _blur(weight)
    x, y, xx, yy, xy = (_blur(values * weight) / total.clamp_min(1e-8) for values in (x, y, x * x, y * y, x * y))
    luminance = (2 * x * y + _C1) / (x * x + y * y + _C1)
    structure = (2 * (xy - x * y) + _C2) / ((xx - x * x) + (yy - y * y) + _C2)
    border = SSIM_WINDOW_PX // 2
    weight = weight[:, 0, border : height - border, border : width - border]
    values = (luminance * structure).mean(1)
    return ((values * weight).sum((-1, -2)) / weight.sum((-1, -2))).reshape(rendered.shape[:-3])


def _blur(images: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n channel new_height new_width"]:
    """Filter each channel with the Gaussian window, without padding."""
    offsets = torch.arange(SSIM_WINDOW_PX, device=images.device) - SSIM_WINDOW_PX // 2
    profile = torch.exp(-(offsets**2) / (2 * _SSIM_SIGMA_PX**2))
    profile = profile / profile.sum()
    # Sums, because autocast rounds convolutions to bfloat16 and cuDNN to TF32: variances are small differences.
    height, width = (size - SSIM_WINDOW_PX + 1 for size in images.shape[-2:])
    rows: Any = sum(weight * images[..., i : i + height, :] for i, weight in enumerate(profile))
    columns: Any = sum(weight * rows[..., i : i + width] for i, weight in enumerate(profile))
    return columns
