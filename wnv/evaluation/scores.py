"""Every metric of every view of a case, as records hold them."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wnv.metrics.image import LPIPS, psnr, ssim
from wnv.metrics.masked import masked_psnr, masked_ssim

PSNR_CAP_DB = 100.0  # what `psnr` gives for a view equal to the truth, whose PSNR is infinite


def open_lpips(backbone: str | None) -> tuple[LPIPS | None, str | None]:
    """LPIPS by the named network, or why there is none.

    Args:
        backbone: `vgg` or `alex`; None does without.

    Returns:
        The metric, and None; or None, and how it could be had (None where it was not asked for).

    Raises:
        ValueError: If there is no such network.
    """
    if backbone is None:
        return None, None
    try:
        return LPIPS(backbone=backbone), None
    except (ImportError, FileNotFoundError) as error:
        return None, str(error)


def score_views(
    drawn: Float[Tensor, "view 3 height width"],
    truth: Float[Tensor, "view 3 height width"],
    *,
    masks: Bool[Tensor, "view height width"] | None = None,
    lpips: LPIPS | None = None,
) -> tuple[dict[str, list[float | None]], int]:
    """Every metric of every view, and how many views have the PSNR at which it is capped, 100 dB.

    Args:
        drawn: What is judged, 0..1.
        truth: What it should be, 0..1.
        masks: Pixels that are judged by themselves, too: as `psnr_masked` and so on, None for a view without any.
        lpips: Measures the perceptual distance; None leaves it out. Outside a mask both images are made black for it.

    Raises:
        ValueError: If an image has values outside 0..1, or is too small to be judged.
    """
    decibels = [min(value, PSNR_CAP_DB) for value in psnr(drawn, truth).tolist()]
    num_capped = sum(value > PSNR_CAP_DB - 1e-3 for value in decibels)
    scores: dict[str, list[float | None]] = {"psnr": [*decibels], "ssim": ssim(drawn, truth).tolist()}
    if lpips is not None:
        scores["lpips"] = lpips(drawn, truth).tolist()
    if masks is not None:
        scores["psnr_masked"] = _finite(masked_psnr(drawn, truth, masks).clamp_max(PSNR_CAP_DB))
        scores["ssim_masked"] = _finite(masked_ssim(drawn, truth, masks))
        if lpips is not None:
            inside = masks[:, None].to(drawn.dtype)
            distances = lpips(drawn * inside, truth * inside)
            scores["lpips_masked"] = _finite(torch.where(masks.flatten(1).any(1), distances, math.nan))
    return scores, num_capped


def _finite(values: Float[Tensor, " view"]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
