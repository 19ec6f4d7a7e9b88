"""Tensors of images as bytes that a screen can show: rounding, enlarging, error maps, PNG files."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from wnv.runtime.atomic import atomic_file


def to_u8(images: Float[Tensor, "*batch 3 height width"]) -> UInt8[np.ndarray, "*batch height width 3"]:
    """Bytes of images, channels last; values are clipped to 0..1 and rounded.

    Args:
        images: RGB in 0..1.

    Raises:
        ValueError: If a value is not finite.
    """
    if not bool(torch.isfinite(images).all()):
        raise ValueError("images hold values that are not finite; the model that drew them has diverged")
    scaled = images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return scaled.movedim(-3, -1).cpu().numpy()


def enlarge(
    image_u8: UInt8[np.ndarray, "height width 3"], *, min_side: int, method: Literal["nearest", "bicubic"] = "bicubic"
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """The picture at the smallest whole multiple of its size whose shorter side is at least `min_side` pixels.

    A picture that is large enough is returned as it is. `nearest` keeps the drawn pixels visible as squares.
    """
    height, width = image_u8.shape[:2]
    factor = -(-min_side // min(height, width))
    if factor <= 1:
        return image_u8
    resampling = Image.Resampling.NEAREST if method == "nearest" else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image_u8).resize((width * factor, height * factor), resampling))


def error_map(
    drawn: Float[Tensor, "3 height width"], truth: Float[Tensor, "3 height width"], *, ceiling: float = 0.5
) -> Float[Tensor, "3 height width"]:
    """Where a drawn image differs from the truth: black is equal, bright yellow is `ceiling` and more.

    The mean absolute difference over the channels is shown on OpenCV's inferno scale.
    """
    difference = (drawn.detach().float() - truth.float()).abs().mean(0).div(ceiling).clamp(0, 1)
    bgr = cv2.applyColorMap((difference.cpu().numpy() * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    return torch.from_numpy(bgr[..., ::-1].copy()).movedim(-1, 0).float() / 255


def write_png(path: str | Path, image_u8: UInt8[np.ndarray, "height width 3"], *, overwrite: bool = False) -> Path:
    """Write one picture as PNG, whole or not at all.

    Raises:
        FileExistsError: If the file is there and `overwrite` is False.
    """
    with atomic_file(Path(path), overwrite=overwrite) as file:
        Image.fromarray(image_u8).save(file, format="PNG")  # optimize=True: 4% smaller in six times the time
    return Path(path)
