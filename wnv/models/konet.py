"""KoNet: novel view synthesis from a few posed images with a decoder-only transformer."""

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
from wnv.models.precision import LayerNorm, no_autocast
from wnv.models.pretrained import PretrainedMixin
from wnv.models.render_images import RenderImagesMixin
from wnv.models.tokens import Tokenizer
from wnv.models.transformer import Transformer
from wnv.types import Cameras, Views

ATTENTIONS = ("cached", "joint")
POSE_NORMALIZATIONS = ("mean", "first")


@dataclass(frozen=True)
class EncodedScene:
    """An encoded context, from which `KoNet.render` renders any number of targets.

    Attributes:
        context: The context views.
        caches: Keys and values per layer; empty with `joint` attention, which encodes the context for every target.
    """

    context: Views
    caches: tuple[KeyValue, ...]


class ViewCondition(nn.Module):
    """The conditioning vector of AdaLN-Zero, made of a view's role (context or target) and time."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.role = nn.Embedding(2, dim)
        self.time = nn.Sequential(nn.Linear(1, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, times: Float[Tensor, "batch view"], *, is_target: bool) -> Float[Tensor, "batch view dim"]:
        """One vector per view."""
        return self.role.weight[int(is_target)] + self.time(times[..., None].to(self.role.weight.dtype))


class KoNet(PretrainedMixin, RenderImagesMixin, nn.Module):
    """A decoder-only transformer over patches of context and target views (after LVSM, arXiv:2410.17242).

    The weights serve two kinds of attention. `cached`: context tokens attend to the context; tokens of a target attend
    to the context and to their own view. The context is encoded once for any number of targets. `joint`: all tokens of
    the context and of one target attend to each other. The context is encoded again for each target.

    The weights may be cast to half precision (`model.bfloat16()`). Keep views and cameras in float32: rays and camera
    maps are computed in float32, and rendered images are float32.

    Args:
        dim: Features per token.
        num_layers: Number of transformer blocks.
        num_heads: Attention heads. `dim / num_heads` must be a multiple of 8 unless both encodings are `none`.
        mlp_dim: Hidden features of the MLPs.
        patch_size: Side of a patch in pixels; one patch is one token.
        camera_encoding: `none`, `gta` or `geope` (also called `prope`), see `wnv.models.camera_encoding`.
        patch_encoding: `none`, `rope2d` or `quaternion`, see `wnv.models.camera_encoding`.
        ray_code: `plucker`, `camray`, `unit_camray`, `raymap`, `fixed` or `none`, see `wnv.models.tokens`.
        attention: `cached` or `joint`.
        time_code: Add the view's time to every token as a channel, for dynamic scenes.
        adaln_zero: Modulate the blocks by the view's role and time.
        qk_norm: Normalise queries and keys.
        qk_norm_eps: The eps of these norms.
        activation: Of the MLPs: `gelu_tanh`, `gelu` (exact, as in LVSM) or `relu` (as in PRoPE).
        input_norm: Normalise the tokens before the first block, as LVSM and PRoPE do.
        colour_range: Range of colours in tokens: `signed` (-1..1) or `unit` (0..1).
        ray_size: Height and width of the only image size that `ray_code=fixed` supports; None otherwise.
        pose_normalization: How training placed its worlds, `mean` or `first` (`wnv.geometry.poses.fit_world_frame`).
            Only `render_images` uses it.
        activation_checkpointing: Save memory in training by recomputing activations.

    Raises:
        ValueError: If an argument is out of range.
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
        self.head_norm = LayerNorm(dim)
        self.head = nn.Linear(dim, 3 * patch_size**2, bias=False)
        if not self.head.weight.is_meta:
            self._initialize_linears()

    def initialize(self) -> None:
        """Initialise all weights from the global generator, for example after `to_empty`."""
        self.apply(lambda module: getattr(module, "reset_parameters", lambda: None)())
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
        """Render target views, RGB in 0..1.

        Args:
            context: Context views, batch axes `batch view`, with cameras in the normalised world
                (`wnv.geometry.poses.fit_world_frame`).
            target_cameras: Target cameras, batch axes `batch target`, in the same world.
            target_times: Time per target on the context's scale; default 0.

        Raises:
            ValueError: If an image size is not a multiple of the patch size, or with `joint` attention the target size
                differs from the context's.
        """
        if self.attention == "joint":
            return self._render_jointly(context, target_cameras, target_times)
        context_tokens, context_options = self._embed_context(context)
        target_tokens, target_options = self._embed_target(target_cameras, target_times)
        _, target_tokens, _ = self.transformer(context_tokens, target_tokens, **context_options, **target_options)
        return self._read_out(target_tokens, target_cameras)

    def encode(self, context: Views) -> EncodedScene:
        """Encode the context for `render`."""
        if self.attention == "joint":
            return EncodedScene(context=context, caches=())
        tokens, options = self._embed_context(context)
        _, _, caches = self.transformer(tokens, None, **options)
        # Rendering reads the caches once per layer and target: fastest if they are contiguous per head.
        return EncodedScene(
            context=context, caches=tuple(KeyValue(*(part.contiguous() for part in cache)) for cache in caches)
        )

    def render(
        self,
        scene: EncodedScene,
        cameras: Cameras,
        times: Float[Tensor, "batch target"] | None = None,
    ) -> Float[Tensor, "batch target 3 height width"]:
        """Render views of an encoded scene: the same pixels as `forward`, together or one by one.

        With `cached` attention the image size may differ from the context's.

        Raises:
            ValueError: As `forward`.
        """
        if self.attention == "joint":
            return self._render_jointly(scene.context, cameras, times)
        tokens, options = self._embed_target(cameras, times)
        _, tokens, _ = self.transformer(None, tokens, list(scene.caches), **options)
        return self._read_out(tokens, cameras)

    def _render_jointly(self, context: Views, cameras: Cameras, times: Tensor | None) -> Tensor:
        """Full attention over the context and one target, with each target in its own batch entry."""
        expected, size = ((c.height, c.width) for c in (context.cameras, cameras))
        if size != expected:  # an equal number of patches in another grid would get wrong patch encodings
            raise ValueError(
                f"with attention=joint, targets must have the context's size {expected[0]} x {expected[1]} "
                f"(height x width), got {size[0]} x {size[1]}; resize one of them"
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

    def _embed_context(self, context: Views) -> tuple[Tensor, dict[str, Any]]:
        code, maps = self._encode_cameras(context.cameras, context.times)
        condition = self._condition(context.times, is_target=False)
        tokens = self.tokenizer.embed_context(context.images, code)
        return tokens, {"context_maps": maps, "context_condition": condition}

    def _embed_target(self, cameras: Cameras, times: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        if times is None:
            times = cameras.K.new_zeros(cameras.batch_shape)
        code, maps = self._encode_cameras(cameras, times)
        condition = self._condition(times, is_target=True)
        return self.tokenizer.embed_target(code), {"target_maps": maps, "target_condition": condition}

    def _encode_cameras(self, cameras: Cameras, times: Tensor) -> tuple[Tensor, TokenMaps]:
        """Ray codes and camera maps, computed without autocast."""
        self.check_image_size(height=cameras.height, width=cameras.width)
        with no_autocast(cameras.K.device.type):
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
        """Check that an image size is a multiple of the patch size.

        Raises:
            ValueError: If it is not.
        """
        for name, value in (("height", height), ("width", width)):
            if value % self.patch_size:
                raise ValueError(
                    f"image {name} must be a multiple of patch_size={self.patch_size}, got {value}; resize to "
                    f"{name}={max(1, round(value / self.patch_size)) * self.patch_size}"
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
