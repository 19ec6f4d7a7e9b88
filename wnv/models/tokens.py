"""Views as tokens: patches of colour, ray code and time, through one linear layer a kind of view."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wnv.geometry.patches import patchify
from wnv.geometry.rays import camera_rays, plucker, raymap
from wnv.types import Cameras

RAY_CHANNELS = {"plucker": 6, "camray": 3, "raymap": 6, "none": 0}


class Tokenizer(nn.Module):
    """Context views become tokens of (RGB, ray code, time), target views tokens of (ray code, time).

    Ray codes, one value a pixel: `plucker` moment and direction in the world (LVSM); `raymap` origin and direction in
    the world; `camray` K^-1 [u, v, 1] in the camera's own frame, which tells the lens and nothing of the pose; `none`.

    Args:
        dim: Features a token.
        patch_size: Side of a patch, in pixels.
        ray_code: See above.
        time_code: Give every token its view's time as one more channel.
    """

    def __init__(self, *, dim: int, patch_size: int, ray_code: str, time_code: bool) -> None:
        super().__init__()
        if ray_code not in RAY_CHANNELS:
            raise ValueError(f"ray_code must be one of {', '.join(RAY_CHANNELS)}, got {ray_code!r}")
        self.patch_size = patch_size
        self.ray_code = ray_code
        self.time_code = time_code
        code_dim = RAY_CHANNELS[ray_code] * patch_size**2 + time_code
        self.context = nn.Linear(3 * patch_size**2 + code_dim, dim, bias=False)
        # Without any code all target tokens start alike, as one learned vector: attention's encodings tell them apart.
        self.target = nn.Linear(code_dim or 1, dim, bias=False)

    def embed_context(
        self, images: Float[Tensor, "batch view 3 height width"], code: Float[Tensor, "batch view token code"]
    ) -> Float[Tensor, "batch view token dim"]:
        """Tokens of given views, from their images in 0..1 and their code."""
        colour = patchify(images * 2 - 1, patch_size=self.patch_size)
        return self.context(torch.cat([colour, code], dim=-1))

    def embed_target(self, code: Float[Tensor, "batch view token code"]) -> Float[Tensor, "batch view token dim"]:
        """Tokens of views to draw, from their code alone."""
        return self.target(code if code.shape[-1] else code.new_ones(*code.shape[:-1], 1))

    def encode_views(
        self, cameras: Cameras, times: Float[Tensor, "batch view"]
    ) -> Float[Tensor, "batch view token code"]:
        """Ray code and time of every token; no channel at all when both are off."""
        num_tokens = (cameras.height // self.patch_size) * (cameras.width // self.patch_size)
        parts = [cameras.K.new_zeros(*cameras.batch_shape, num_tokens, 0)]
        if self.ray_code != "none":
            parts.append(patchify(self._ray_code(cameras).movedim(-1, -3), patch_size=self.patch_size))
        if self.time_code:
            parts.append(times[..., None, None].expand(*times.shape, num_tokens, 1))
        return torch.cat(parts, dim=-1)

    def _ray_code(self, cameras: Cameras) -> Float[Tensor, "batch view height width channel"]:
        size = {"height": cameras.height, "width": cameras.width}
        if self.ray_code == "camray":
            return camera_rays(cameras.K, **size)
        function = plucker if self.ray_code == "plucker" else raymap
        return function(cameras.K, cameras.camtoworld, **size)
