"""The scores of rendered views, as stored in records."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wnv.metrics.image import LPIPS, psnr, ssim
from wnv.metrics.masked import masked_psnr, masked_ssim

PSNR_CAP_DB = 100.0  # counted for views equal to the ground truth, whose PSNR is infinite


def open_lpips(backbone: str | None) -> tuple[LPIPS | None, str | None]:
    """Open LPIPS with a backbone, `vgg` or `alex`; if it is unavailable, return None and the reason."""
    if backbone is None:
        return None, None
    try:
        return LPIPS(backbone=backbone), None
    except (ImportError, FileNotFoundError) as error:
        return None, str(error)


def score_views(
    rendered: Float[Tensor, "view 3 height width"],
    truth: Float[Tensor, "view 3 height width"],
    *,
    masks: Bool[Tensor, "view height width"] | None = None,
    lpips: LPIPS | None = None,
) -> tuple[dict[str, list[float | None]], int]:
    """Score views by all metrics; also the number of views whose PSNR reached the cap.

    Pixels in `masks` are also scored separately, as `psnr_masked` etc.: None for a view without such pixels. Masked
    LPIPS blackens the rest of both images.

    Raises:
        ValueError: If an image has values outside 0..1, or is too small for SSIM.
    """
    decibels = [min(value, PSNR_CAP_DB) for value in psnr(rendered, truth).tolist()]
    num_capped = sum(value > PSNR_CAP_DB - 1e-3 for value in decibels)
    scores: dict[str, list[float | None]] = {"psnr": [*decibels], "ssim": ssim(rendered, truth).tolist()}
    if lpips is not None:
        scores["lpips"] = lpips(rendered, truth).tolist()
    if masks is not None:
        scores["psnr_masked"] = _finite(masked_psnr(rendered, truth, masks).clamp_max(PSNR_CAP_DB))
        scores["ssim_masked"] = _finite(masked_ssim(rendered, truth, masks))
        if lpips is not None:
            inside = masks[:, None].to(rendered.dtype)
            distances = lpips(rendered * inside, truth * inside)
            scores["lpips_masked"] = _finite(torch.where(masks.flatten(1).any(1), distances, math.nan))
    return scores, num_capped


def _finite(values: Float[Tensor, " view"]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
