"""Views to tokens: patches of colour, ray code and time, through one linear layer for context and one for targets."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from wnv.geometry.patches import patchify
from wnv.geometry.rays import camera_rays, plucker, raymap
from wnv.models.precision import LayerNorm, has_autocast, no_autocast
from wnv.types import Cameras

RAY_CHANNELS = {"plucker": 6, "camray": 3, "unit_camray": 3, "raymap": 6, "fixed": 6, "none": 0}
COLOUR_RANGES = ("signed", "unit")


class Tokenizer(nn.Module):
    """Embed context views from (RGB, ray code, time) and target views from (ray code, time).

    Ray codes per pixel: `plucker`, moment and direction in the world (LVSM); `raymap`, origin and direction in the
    world; `camray`, K^-1 [u, v, 1] in camera coordinates, which encodes the intrinsics but not the pose; `unit_camray`,
    the same with length 1; `fixed`, one random image for all cameras, with which PRoPE (arXiv:2507.10496) keeps the
    number of weights equal; `none`.

    Args:
        dim: Features per token.
        patch_size: Side of a patch in pixels.
        ray_code: See above.
        time_code: Add the view's time to every token as a channel.
        input_norm: Normalise the tokens (LayerNorm without bias).
        colour_range: Range of colours in tokens: `signed` (-1..1) or `unit` (0..1).
        ray_size: Height and width in pixels of the `fixed` code, and so of all images.

    Raises:
        ValueError: If an argument is out of range.
    """

    fixed_rays: Tensor

    def __init__(
        self,
        *,
        dim: int,
        patch_size: int,
        ray_code: str,
        time_code: bool,
        input_norm: bool = False,
        colour_range: str = "signed",
        ray_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if ray_code not in RAY_CHANNELS:
            raise ValueError(f"ray_code must be one of {', '.join(RAY_CHANNELS)}, got {ray_code!r}")
        if colour_range not in COLOUR_RANGES:
            raise ValueError(f"colour_range must be one of {', '.join(COLOUR_RANGES)}, got {colour_range!r}")
        if (ray_code == "fixed") != (ray_size is not None):
            raise ValueError(
                f"ray_size must be given with ray_code=fixed and only then, got ray_size={ray_size} with "
                f"ray_code={ray_code}"
            )
        self.patch_size = patch_size
        self.ray_code = ray_code
        self.time_code = time_code
        self.colour_range = colour_range
        code_dim = RAY_CHANNELS[ray_code] * patch_size**2 + time_code
        self.context = nn.Linear(3 * patch_size**2 + code_dim, dim, bias=False)
        # Without a code all target tokens start as one learned vector; only the attention encodings differ.
        self.target = nn.Linear(code_dim or 1, dim, bias=False)
        self.norm = LayerNorm(dim) if input_norm else nn.Identity()
        if ray_size is not None:
            self.register_buffer("fixed_rays", torch.randn(*ray_size, RAY_CHANNELS["fixed"]))

    def reset_parameters(self) -> None:
        """Sample the rays of `ray_code=fixed`."""
        if self.ray_code == "fixed":
            self.fixed_rays.normal_()

    def embed_context(
        self, images: Float[Tensor, "batch view 3 height width"], code: Float[Tensor, "batch view token code"]
    ) -> Float[Tensor, "batch view token dim"]:
        """Embed context views from their images in 0..1 and their code."""
        if self.colour_range == "signed":
            images = images * 2 - 1
        colour = patchify(images, patch_size=self.patch_size)
        return self._embed(self.context, torch.cat([colour, code], dim=-1))

    def embed_target(self, code: Float[Tensor, "batch view token code"]) -> Float[Tensor, "batch view token dim"]:
        """Embed target views from their code."""
        code = code if code.shape[-1] else code.new_ones(*code.shape[:-1], 1)
        return self._embed(self.target, code)

    def _embed(
        self, layer: nn.Linear, features: Float[Tensor, "batch view token feature"]
    ) -> Float[Tensor, "batch view token dim"]:
        """Apply a first layer in float32 at least: as bfloat16, rays are off by up to a pixel."""
        device = features.device.type
        dtype = layer.weight.dtype
        if has_autocast(device) and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        wide = torch.promote_types(layer.weight.dtype, torch.float32)
        with no_autocast(device):
            tokens = functional.linear(features.to(wide), layer.weight.to(wide))
        return self.norm(tokens.to(dtype))

    def encode_views(
        self, cameras: Cameras, times: Float[Tensor, "batch view"]
    ) -> Float[Tensor, "batch view token code"]:
        """Compute the ray code and time of every token; without both there are no channels."""
        num_tokens = (cameras.height // self.patch_size) * (cameras.width // self.patch_size)
        parts = [cameras.K.new_zeros(*cameras.batch_shape, num_tokens, 0)]
        if self.ray_code != "none":
            parts.append(patchify(self._ray_code(cameras).movedim(-1, -3), patch_size=self.patch_size))
        if self.time_code:
            parts.append(times[..., None, None].expand(*times.shape, num_tokens, 1))
        return torch.cat(parts, dim=-1)

    def _ray_code(self, cameras: Cameras) -> Float[Tensor, "batch view height width channel"]:
        size = {"height": cameras.height, "width": cameras.width}
        if self.ray_code == "fixed":
            return self._fixed_rays(**size).expand(*cameras.batch_shape, -1, -1, -1)
        if self.ray_code == "camray":
            return camera_rays(cameras.K, **size)
        if self.ray_code == "unit_camray":
            return functional.normalize(camera_rays(cameras.K, **size), dim=-1)
        function = plucker if self.ray_code == "plucker" else raymap
        return function(cameras.K, cameras.camtoworld, **size)

    def _fixed_rays(self, *, height: int, width: int) -> Float[Tensor, "height width channel"]:
        if self.fixed_rays.shape[:2] != (height, width):
            fixed_height, fixed_width = self.fixed_rays.shape[:2]
            raise ValueError(
                f"with ray_code=fixed, images must be {fixed_height} x {fixed_width} (height x width), got "
                f"{height} x {width}; resize the views"
            )
        return self.fixed_rays
