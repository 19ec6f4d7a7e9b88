"""KoNet: shown a few posed images of a place, it draws the place from cameras that it was never given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from wnv.geometry.patches import unpatchify
from wnv.models.attention import KeyValue
from wnv.models.camera_encoding import TokenMaps, check_head_dim, concat_views, encode_cameras
from wnv.models.pretrained import PretrainedMixin
from wnv.models.render_images import RenderImagesMixin
from wnv.models.tokens import Tokenizer
from wnv.models.transformer import Transformer
from wnv.types import Cameras, Views

ATTENTIONS = ("cached", "joint")
POSE_NORMALIZATIONS = ("mean", "first")


@dataclass(frozen=True)
class EncodedScene:
    """What `KoNet.render` needs of the context: draw any number of targets from it.

    Attributes:
        context: The views it was made of.
        caches: Keys and values a layer; empty for `joint` attention, which starts from the context each time.
    """

    context: Views
    caches: tuple[KeyValue, ...]


class ViewCondition(nn.Module):
    """The vector that AdaLN-Zero is conditioned on: whether a view is given or drawn, and its time."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.role = nn.Embedding(2, dim)
        self.time = nn.Sequential(nn.Linear(1, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, times: Float[Tensor, "batch view"], *, is_target: bool) -> Float[Tensor, "batch view dim"]:
        """One vector a view."""
        return self.role.weight[int(is_target)] + self.time(times[..., None].to(self.role.weight.dtype))


class KoNet(PretrainedMixin, RenderImagesMixin, nn.Module):
    """A decoder-only transformer over patches of context and target views (after LVSM, arXiv:2410.17242).

    Two attentions use the same weights. `cached`: context tokens see the context, a target's tokens see the context and
    themselves; so the context is computed once, whatever is drawn from it. `joint`: all tokens of the context and of
    one target see each other, and the context is computed anew for each target.

    The weights may be cast (`model.half()`, `model.bfloat16()`): views and cameras stay in float32, in which rays and
    camera maps are computed, and the images drawn are float32.

    Args:
        dim: Features a token.
        num_layers: Transformer blocks.
        num_heads: Attention heads; dim / num_heads must be a multiple of 8 unless both encodings are `none`.
        mlp_dim: Hidden features of the feed-forwards.
        patch_size: Side of the square of pixels that becomes one token.
        camera_encoding: `none`, `gta` or `geope`, see `wnv.models.camera_encoding`.
        patch_encoding: `none`, `rope2d` or `quaternion`, see there.
        ray_code: `plucker`, `camray`, `unit_camray`, `raymap`, `fixed` or `none`, see `wnv.models.tokens`.
        attention: `cached` or `joint`.
        time_code: One more channel of every token holds its view's time, for dynamic scenes.
        adaln_zero: Modulate the blocks by a condition made of the view's role and time.
        qk_norm: Normalise queries and keys.
        qk_norm_eps: Added to the mean square that they are divided by.
        activation: Of the feed-forwards: `gelu_tanh`, `gelu` (exact, as in LVSM) or `relu` (as in PRoPE).
        input_norm: Normalise the tokens before the first block, as LVSM and PRoPE do.
        colour_range: Colours are -1..1 in a token (`signed`) or 0..1 (`unit`).
        ray_size: Height and width of the one image size that `ray_code=fixed` draws; None with the others.
        pose_normalization: How the worlds of the training were placed (`wnv.geometry.poses.fit_world_frame`), `mean` or
            `first`; the network does not depend on it, `render_images` does.
        activation_checkpointing: Trade compute for memory in training.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        dim: int = 768,
        num_layers: int = 6,
        num_heads: int = 16,
        mlp_dim: int = 3072,
        patch_size: int = 8,
        camera_encoding: str = "geope",
        patch_encoding: str = "rope2d",
        ray_code: str = "camray",
        attention: str = "cached",
        time_code: bool = False,
        adaln_zero: bool = False,
        qk_norm: bool = True,
        qk_norm_eps: float = 1e-6,
        activation: str = "gelu_tanh",
        input_norm: bool = False,
        colour_range: str = "signed",
        ray_size: Sequence[int] | None = None,
        pose_normalization: str = "mean",
        activation_checkpointing: bool = False,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        if camera_encoding == "prope":
            arguments["camera_encoding"] = "geope"
        if ray_size is not None:
            arguments["ray_size"] = list(ray_size)
        self.config: dict[str, Any] = arguments  # what `config.json` holds
        _check_config(self.config)
        self.patch_size = patch_size
        self.camera_encoding = camera_encoding
        self.patch_encoding = patch_encoding
        self.attention = attention
        self.head_dim = dim // num_heads
        self.pose_normalization = pose_normalization
        self.tokenizer = Tokenizer(
            dim=dim,
            patch_size=patch_size,
            ray_code=ray_code,
            time_code=time_code,
            input_norm=input_norm,
            colour_range=colour_range,
            ray_size=ray_size,
        )
        self.condition = ViewCondition(dim=dim) if adaln_zero else None
        self.transformer = Transformer(
            num_layers=num_layers,
            dim=dim,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            qk_norm=qk_norm,
            qk_norm_eps=qk_norm_eps,
            activation=activation,
            adaln_zero=adaln_zero,
            activation_checkpointing=activation_checkpointing,
        )
        self.head_norm = nn.LayerNorm(dim, bias=False)
        self.head = nn.Linear(dim, 3 * patch_size**2, bias=False)
        if not self.head.weight.is_meta:
            self._initialize_linears()

    def initialize(self) -> None:
        """Initialise all weights from the global generator, for example after `to_empty`."""
        self.apply(lambda module: module.reset_parameters() if hasattr(module, "reset_parameters") else None)
        self._initialize_linears()

    def _initialize_linears(self) -> None:
        for layer in (self.tokenizer.context, self.tokenizer.target, self.head):
            nn.init.normal_(layer.weight, std=0.02)
        self.transformer.initialize_linears()

    def forward(
        self,
        context: Views,
        target_cameras: Cameras,
        target_times: Float[Tensor, "batch target"] | None = None,
    ) -> Float[Tensor, "batch target 3 height width"]:
        """The target views, RGB in 0..1.

        Args:
            context: Given views, batch axes `batch view`, cameras in the normalised world
                (`wnv.geometry.poses.fit_world_frame`).
            target_cameras: Cameras to draw from, batch axes `batch target`, in the same world.
            target_times: Time of each target on the context's scale; zeros when left out.

        Raises:
            ValueError: If an image size is not a multiple of the patch size, or with `joint` attention the targets' is
                not the context's.
        """
        if self.attention == "joint":
            return self._render_jointly(context, target_cameras, target_times)
        context_tokens, context_options = self._embed_context(context)
        target_tokens, target_options = self._embed_target(target_cameras, target_times)
        _, target_tokens, _ = self.transformer(context_tokens, target_tokens, **context_options, **target_options)
        return self._read_out(target_tokens, target_cameras)

    def encode(self, context: Views) -> EncodedScene:
        """Compute all that drawing needs of the context, once."""
        if self.attention == "joint":
            return EncodedScene(context=context, caches=())
        tokens, options = self._embed_context(context)
        _, _, caches = self.transformer(tokens, None, **options)
        # Drawing reads these once a layer and target; head by head in memory they are read at full speed.
        return EncodedScene(
            context=context, caches=tuple(KeyValue(*(part.contiguous() for part in cache)) for cache in caches)
        )

    def render(
        self,
        scene: EncodedScene,
        cameras: Cameras,
        times: Float[Tensor, "batch target"] | None = None,
    ) -> Float[Tensor, "batch target 3 height width"]:
        """Draw views of an encoded scene; the same pixels as `forward`, whether drawn together or one by one.

        The image size may differ from the context's with `cached` attention.

        Raises:
            ValueError: If an image size is not a multiple of the patch size, or with `joint` attention not that of the
                context.
        """
        if self.attention == "joint":
            return self._render_jointly(scene.context, cameras, times)
        tokens, options = self._embed_target(cameras, times)
        _, tokens, _ = self.transformer(None, tokens, list(scene.caches), **options)
        return self._read_out(tokens, cameras)

    def _render_jointly(self, context: Views, cameras: Cameras, times: Tensor | None) -> Tensor:
        """Full attention over the context and one target, for each target in a batch entry of its own."""
        given, wanted = ((c.height, c.width) for c in (context.cameras, cameras))
        if given != wanted:  # as many patches in another grid would be drawn, with the places of the context's
            raise ValueError(
                f"attention=joint draws views of the size of the given ones alone, {given[0]} x {given[1]} pixels "
                f"(height x width), got {wanted[0]} x {wanted[1]}; ask for that size, or resize the given views"
            )
        num_targets = cameras.batch_shape[1]
        context_tokens, context_options = self._embed_context(context)
        target_tokens, target_options = self._embed_target(cameras, times)
        tokens = torch.cat(
            [context_tokens.repeat_interleave(num_targets, dim=0), target_tokens.flatten(0, 1).unsqueeze(1)], dim=1
        )
        maps = concat_views(
            context_options["context_maps"].repeat_views(num_targets), target_options["target_maps"].views_to_batch()
        )
        condition = None
        if self.condition is not None:
            condition = torch.cat(
                [
                    context_options["context_condition"].repeat_interleave(num_targets, dim=0),
                    target_options["target_condition"].flatten(0, 1).unsqueeze(1),
                ],
                dim=1,
            )
        tokens, _, _ = self.transformer(tokens, None, keep_context=True, context_maps=maps, context_condition=condition)
        return self._read_out(tokens[:, -1].unflatten(0, (-1, num_targets)), cameras)

    def _embed_context(self, context: Views) -> tuple[Tensor, dict[str, TokenMaps | Tensor | None]]:
        code, maps = self._encode_cameras(context.cameras, context.times)
        condition = self._condition(context.times, is_target=False)
        tokens = self.tokenizer.embed_context(context.images, code)
        return tokens, {"context_maps": maps, "context_condition": condition}

    def _embed_target(
        self, cameras: Cameras, times: Tensor | None
    ) -> tuple[Tensor, dict[str, TokenMaps | Tensor | None]]:
        if times is None:
            times = cameras.K.new_zeros(cameras.batch_shape)
        code, maps = self._encode_cameras(cameras, times)
        condition = self._condition(times, is_target=True)
        return self.tokenizer.embed_target(code), {"target_maps": maps, "target_condition": condition}

    def _encode_cameras(self, cameras: Cameras, times: Tensor) -> tuple[Tensor, TokenMaps]:
        """Ray codes and camera maps, in the cameras' own precision also under autocast."""
        self.check_image_size(height=cameras.height, width=cameras.width)
        with torch.autocast(cameras.K.device.type, enabled=False):
            maps = encode_cameras(
                cameras,
                camera_encoding=self.camera_encoding,
                patch_encoding=self.patch_encoding,
                patch_size=self.patch_size,
                head_dim=self.head_dim,
            )
            return self.tokenizer.encode_views(cameras, times), maps

    def _condition(self, times: Tensor, *, is_target: bool) -> Tensor | None:
        return None if self.condition is None else self.condition(times, is_target=is_target)

    def _read_out(self, tokens: Tensor, cameras: Cameras) -> Tensor:
        pixels = self.head(self.head_norm(tokens))
        pixels = functional.sigmoid(pixels.to(torch.promote_types(pixels.dtype, torch.float32)))
        return unpatchify(pixels, height=cameras.height, width=cameras.width, patch_size=self.patch_size)

    def check_image_size(self, *, height: int, width: int) -> None:
        """Refuse images that cannot be cut into patches.

        Raises:
            ValueError: If a side is no multiple of the patch.
        """
        for name, value in (("height", height), ("width", width)):
            if value % self.patch_size:
                raise ValueError(
                    f"image {name} must be a multiple of patch_size={self.patch_size}, got {value}; resize the views, "
                    f"for example to {name}={max(1, round(value / self.patch_size)) * self.patch_size}"
                )


def _check_config(config: dict[str, Any]) -> None:
    for name in ("dim", "num_layers", "num_heads", "mlp_dim", "patch_size"):
        if config[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {config[name]}")
    if config["dim"] % config["num_heads"]:
        raise ValueError(f"dim must be a multiple of num_heads={config['num_heads']}, got {config['dim']}")
    if config["attention"] not in ATTENTIONS:
        raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}, got {config['attention']!r}")
    if config["pose_normalization"] not in POSE_NORMALIZATIONS:
        raise ValueError(
            f"pose_normalization must be one of {', '.join(POSE_NORMALIZATIONS)}, got {config['pose_normalization']!r}"
        )
    check_head_dim(
        config["dim"] // config["num_heads"],
        camera_encoding=config["camera_encoding"],
        patch_encoding=config["patch_encoding"],
    )
