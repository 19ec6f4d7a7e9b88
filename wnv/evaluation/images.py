"""Convert images to bytes, enlarge them, show errors, write PNG files."""

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from wnv.runtime.atomic import atomic_file


def to_u8(images: Float[Tensor, "*batch 3 height width"]) -> UInt8[np.ndarray, "*batch height width 3"]:
    """Convert images in 0..1 to bytes, channels last; values are clipped and rounded.

    Raises:
        ValueError: If a value is not finite.
    """
    if not bool(torch.isfinite(images).all()):
        raise ValueError("images hold values that are not finite; the model that rendered them has diverged")
    scaled = images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return scaled.movedim(-3, -1).cpu().numpy()


def enlarge(
    image_u8: UInt8[np.ndarray, "height width 3"], *, min_side: int
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Enlarge (bicubic) by the smallest integer factor that makes the shorter side at least `min_side` pixels."""
    height, width = image_u8.shape[:2]
    factor = -(-min_side // min(height, width))
    if factor <= 1:
        return image_u8
    resized = Image.fromarray(image_u8).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def error_map(
    rendered: Float[Tensor, "3 height width"], truth: Float[Tensor, "3 height width"], *, ceiling: float = 0.5
) -> Float[Tensor, "3 height width"]:
    """Mean absolute error over the channels on OpenCV's inferno scale, from 0 (black) to `ceiling` (bright yellow)."""
    difference = (rendered.detach().float() - truth.float()).abs().mean(0).div(ceiling).clamp(0, 1)
    bgr = cv2.applyColorMap((difference.cpu().numpy() * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    return torch.from_numpy(bgr[..., ::-1].copy()).movedim(-1, 0).float() / 255


def write_png(path: str | Path, image_u8: UInt8[np.ndarray, "height width 3"], *, overwrite: bool = False) -> Path:
    """Write a PNG file atomically.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
    """
    with atomic_file(Path(path), overwrite=overwrite) as file:
        Image.fromarray(image_u8).save(file, format="PNG")  # optimize=True: 4% smaller in six times the time
    return Path(path)
