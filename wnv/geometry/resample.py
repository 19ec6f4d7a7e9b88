"""Images brought to a size, with the K that goes with them."""

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.cameras import crop_K, scale_K

# New rows resampled by one product. Larger multiplies more zeros, smaller has more overhead; 32 to 64 were fastest.
_ROWS_PER_BLOCK = 32


def fit_images(
    images: Float[Tensor, "*batch channel h w"],
    K: Float[Tensor, "*batch 3 3"],
    *,
    height: int,
    width: int,
    zoom: float | int | Float[Tensor, "*#batch"] = 1.0,
) -> tuple[Float[Tensor, "*batch channel height width"], Float[Tensor, "*batch 3 3"]]:
    """Scale images to cover (height, width), cut out the centre, and magnify it `zoom` times.

    One resampling does all three, with a triangle filter as wide as the output pixel (bilinear, antialiased), so
    nothing is rounded to whole pixels and K is exact: x and y are scaled alike, and the image centre stays the centre.
    The one exception is a pure crop (scale 1): it copies pixels, and is off centre by half a pixel where it has to be.

    Args:
        images: Of any value range; results stay in it.
        K: In pixels of the input images.
        height: Wanted height in pixels.
        width: Wanted width in pixels.
        zoom: At least 1 (1 = all that fits), one for all images or one each.

    Returns:
        The images and their K, in pixels of the new size.

    Raises:
        ValueError: If a zoom is below 1 or a size is not positive.
    """
    if height < 1 or width < 1:
        raise ValueError(f"image size must be positive, got height {height} and width {width}")
    old_height, old_width = images.shape[-2:]
    # In float64 on the host: a handful of numbers per image, and the last bits of the window decide about its border.
    zooms = torch.as_tensor(zoom, dtype=torch.float64, device="cpu").expand(images.shape[:-3])
    if not bool((zooms >= 1).all() & zooms.isfinite().all()):
        raise ValueError(f"zoom must be at least 1 (zooming out would need pixels the image has not), got {zoom}")
    scale = zooms * max(width / old_width, height / old_height)
    left, top = _window_start(old_width, width, scale), _window_start(old_height, height, scale)
    weights_x = _resampling_weights(old_width, width, scale, left)
    weights_y = _resampling_weights(old_height, height, scale, top)
    with torch.autocast(images.device.type, enabled=False):
        # The axis that shrinks more goes first, so that the second pass has less to do.
        if width * old_height <= height * old_width:
            fitted = _resample_rows(_resample_rows(images.mT, weights_x).mT, weights_y)
        else:
            fitted = _resample_rows(_resample_rows(images, weights_y).mT, weights_x).mT
    cropped = crop_K(K, left=left, top=top)
    return fitted.contiguous(), scale_K(cropped, scale_x=scale, scale_y=scale)


def _window_start(old_size: int, size: int, scale: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Where the central window of `size` new pixels begins, in old pixels."""
    start = (old_size - size / scale) / 2
    return torch.where(scale == 1, start.floor(), start)


def _resampling_weights(
    old_size: int, size: int, scale: Float[Tensor, "*batch"], start: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch {size} {old_size}"]:
    """Weights of old pixels (columns) in new pixels (rows) along one axis; each new pixel's add up to 1."""
    centers = start[..., None] + (torch.arange(size, dtype=torch.float64) + 0.5) / scale[..., None]
    old_centers = torch.arange(old_size, dtype=torch.float64) + 0.5
    # Shrinking widens the filter to the new pixel's pitch (antialiasing); enlarging interpolates between old pixels.
    reach = (1 / scale).clamp_min(1)
    weights = (1 - (old_centers - centers[..., None]).abs() / reach[..., None, None]).clamp_min(0)
    return weights / weights.sum(dim=-1, keepdim=True)


def _resample_rows(
    images: Float[Tensor, "*batch channel old_size other"], weights: Float[Tensor, "*batch size old_size"]
) -> Float[Tensor, "*batch channel size other"]:
    """`weights @ images`, a block of new rows at a time: a block needs only the few old rows that it overlaps."""
    blocks = []
    for block in weights.split(_ROWS_PER_BLOCK, dim=-2):
        used = (block > 0).flatten(0, -2).any(dim=0).nonzero()
        rows = slice(int(used[0]), int(used[-1]) + 1)
        block = block[..., None, :, rows].to(images.dtype).to(images.device)
        blocks.append(block @ images[..., rows, :])
    return torch.cat(blocks, dim=-2)
