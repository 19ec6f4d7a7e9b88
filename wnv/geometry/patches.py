"""Split images into patches and reassemble them."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def patchify(x: Float[Tensor, "*batch channel height width"], *, patch_size: int) -> Float[Tensor, "*batch token dim"]:
    """Cut an image into square patches, one token each.

    Tokens run along the rows of patches (left to right, then down); inside a token the order is patch row, patch
    column, channel.

    Raises:
        ValueError: If the height or the width is not a multiple of `patch_size`.
    """
    _check_divisible(x.shape[-2], x.shape[-1], patch_size)
    return rearrange(x, "... c (h p) (w q) -> ... (h w) (p q c)", p=patch_size, q=patch_size)


def unpatchify(
    tokens: Float[Tensor, "*batch token dim"], *, height: int, width: int, patch_size: int
) -> Float[Tensor, "*batch channel height width"]:
    """Reassemble the tokens of `patchify` to an image of (height, width).

    Raises:
        ValueError: If the shape of the tokens does not fit the image size.
    """
    _check_divisible(height, width, patch_size)
    num_tokens = (height // patch_size) * (width // patch_size)
    if tokens.shape[-2] != num_tokens or tokens.shape[-1] % patch_size**2:
        raise ValueError(
            f"tokens of a {height} x {width} (height x width) image in patches of {patch_size} must have shape "
            f"(..., {num_tokens}, channels * {patch_size**2}), got {tuple(tokens.shape)}"
        )
    return rearrange(
        tokens, "... (h w) (p q c) -> ... c (h p) (w q)", h=height // patch_size, p=patch_size, q=patch_size
    )


def _check_divisible(height: int, width: int, patch_size: int) -> None:
    if patch_size < 1:
        raise ValueError(f"patch_size must be at least 1 pixel, got {patch_size}")
    for name, size in (("height", height), ("width", width)):
        if size < 1 or size % patch_size:
            below, above = size // patch_size * patch_size, (size // patch_size + 1) * patch_size
            sizes = f"{below} or {above}" if below > 0 else str(above)
            raise ValueError(f"image {name} must be a multiple of patch_size={patch_size}, got {size}; use {sizes}")
