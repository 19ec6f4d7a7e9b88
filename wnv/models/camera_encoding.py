"""Camera and patch encodings: linear maps on queries, keys, values and outputs of attention.

An encoding gives every token i three matrices: q_i <- A_i q_i, (k_i, v_i) <- B_i (k_i, v_i), o_i <- C_i o_i. None
depends on other tokens, so mapped keys and values can be cached. Half of a head's dimensions encode the camera, the
other half the position of the patch in its image.

| camera encoding | P of a view                  | A   | B    | C | source                                             |
|-----------------|------------------------------|-----|------|---|----------------------------------------------------|
| `none`          | identity                     |     |      |   |                                                    |
| `gta`           | viewmat                      | P^T | P^-1 | P | GTA, arXiv:2310.10375                              |
| `geope`, `prope` | lift(K_norm - 1/2) @ viewmat | P^T | P^-1 | P | PRoPE, arXiv:2507.10496 |

With these, q_i . k_j depends on the cameras through P_i P_j^-1 alone, the map from one camera's image space to the
other's, and not on the world frame. `prope` and `geope` are two names of the same encoding. (It is unrelated to the
quaternion GeoPE of arXiv:2512.04963, an encoding of patch positions, which is `patch_encoding=quaternion` here.)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.cameras import invert_K, normalize_K
from wnv.geometry.poses import invert_se3
from wnv.geometry.products import matmul
from wnv.models.head_maps import norm_and_map
from wnv.models.precision import HeadNorm, no_autocast
from wnv.types import Cameras

CAMERA_ENCODINGS = ("none", "gta", "geope", "prope")
PATCH_ENCODINGS = ("none", "rope2d", "quaternion")

ROTARY_BASE = 100.0


@dataclass(frozen=True)
class PatchRotation:
    """Rotations of feature pairs (`rope2d`): feature j of an axis' quarter with feature j + an eighth of the head.

    Attributes:
        cos: Cosine of the angle per feature, the quarter of x before that of y.
        sin: Sine of that angle, negative for the second feature of a pair.
        swap: Permutation that exchanges the features of each pair.
    """

    cos: Float[Tensor, "token 1 half"]
    sin: Float[Tensor, "token 1 half"]
    swap: Float[Tensor, "half half"]

    def apply(self, x: Float[Tensor, "... token head half"]) -> Float[Tensor, "... token head half"]:
        """Rotate the features `x`."""
        # A matrix product is several times cheaper than a permutation, above all in the backward pass.
        return torch.addcmul(x * self.cos, x @ self.swap, self.sin)

    def inverse(self) -> "PatchRotation":
        """The inverse rotations."""
        return replace(self, sin=-self.sin)


@dataclass(frozen=True)
class TripleRotation:
    """Rotations of feature triples (`quaternion`) in row-vector form; remaining features are unchanged."""

    matrix: Float[Tensor, "token 1 triple 3 3"]

    def apply(self, x: Float[Tensor, "... token head half"]) -> Float[Tensor, "... token head half"]:
        """Rotate the features `x`."""
        num_turned = 3 * self.matrix.shape[-3]
        turned, rest = x[..., :num_turned], x[..., num_turned:]
        turned = (turned.unflatten(-1, (-1, 1, 3)) @ self.matrix).flatten(-3)
        return torch.cat([turned, rest], dim=-1)

    def inverse(self) -> "TripleRotation":
        """The inverse rotations."""
        return replace(self, matrix=self.matrix.transpose(-1, -2))


@dataclass(frozen=True)
class TokenMaps:
    """Maps of all tokens of some views, computed once per forward pass and shared by all layers.

    Camera matrices are in row-vector form: rows of four features are multiplied by them from the right.

    Attributes:
        query: P, for queries; None without a camera encoding.
        key_value: P^-T, for keys and values.
        output: P^T, for attention outputs.
        patch: For the other half of the features of q, k and v; None without a patch encoding.
        inverse_patch: For that half of outputs.
    """

    query: Float[Tensor, "batch view 4 4"] | None
    key_value: Float[Tensor, "batch view 4 4"] | None
    output: Float[Tensor, "batch view 4 4"] | None
    patch: PatchRotation | TripleRotation | None
    inverse_patch: PatchRotation | TripleRotation | None

    def map_query(
        self, x: Float[Tensor, "batch view token head dim"], norm: HeadNorm | None = None
    ) -> Float[Tensor, "batch view token head dim"]:
        """Map queries, normalized first if `norm` is given."""
        return _apply(x, self.query, self.patch, norm)

    def map_key_value(
        self, x: Float[Tensor, "batch view token head dim"], norm: HeadNorm | None = None
    ) -> Float[Tensor, "batch view token head dim"]:
        """Map keys (normalized first if `norm` is given) or values; the result is valid for any query."""
        return _apply(x, self.key_value, self.patch, norm)

    def map_output(self, x: Float[Tensor, "batch view token head dim"]) -> Float[Tensor, "batch view token head dim"]:
        """Map attention outputs back to the frame of the querying view."""
        return _apply(x, self.output, self.inverse_patch, None)

    def repeat_views(self, repeats: int) -> "TokenMaps":
        """Repeat each batch entry, as `Tensor.repeat_interleave(repeats, dim=0)`."""
        return self._map_cameras(lambda matrix: matrix.repeat_interleave(repeats, dim=0))

    def views_to_batch(self) -> "TokenMaps":
        """Move every view to its own batch entry."""
        return self._map_cameras(lambda matrix: matrix.flatten(0, 1).unsqueeze(1))

    def _map_cameras(self, function: Callable[[Tensor], Tensor]) -> "TokenMaps":
        if self.query is None or self.key_value is None or self.output is None:
            return self
        return replace(
            self, query=function(self.query), key_value=function(self.key_value), output=function(self.output)
        )


def concat_views(first: TokenMaps, second: TokenMaps) -> TokenMaps:
    """Concatenate the views of two maps of the same image size and encodings."""
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in ("query", "key_value", "output")}
    return replace(first, **{name: torch.cat(pair, dim=1) for name, pair in pairs.items() if pair[0] is not None})


def encode_cameras(
    cameras: Cameras,
    *,
    camera_encoding: str,
    patch_encoding: str,
    patch_size: int,
    head_dim: int,
) -> TokenMaps:
    """Compute the maps that attention applies to the tokens of these views.

    Args:
        cameras: Cameras with batch axes `batch view`, in the normalised world frame.
        camera_encoding: See the module's table.
        patch_encoding: `rope2d` rotates pairs by the patch's column (a quarter of the head) and row (another quarter),
            base 100; `quaternion` rotates triples by the mean of the column's and the row's rotation
            (arXiv:2512.04963).
        patch_size: Side of a patch in pixels.
        head_dim: Features per head.

    Raises:
        ValueError: As `check_head_dim`.
    """
    check_head_dim(head_dim, camera_encoding=camera_encoding, patch_encoding=patch_encoding)
    query = key_value = output = None
    if camera_encoding != "none":
        image_from_world, world_from_image = _projective_maps(cameras, with_K=camera_encoding != "gta")
        # Row-vector form: q <- P^T q is q_row @ P; k <- P^-1 k is k_row @ P^-T; o <- P o is o_row @ P^T.
        query = image_from_world
        key_value = world_from_image.transpose(-1, -2)
        output = image_from_world.transpose(-1, -2)
    patch = inverse = None
    if patch_encoding != "none":
        # Tensors of fake modes and of torch.compile must not be kept for later.
        is_real = type(cameras.K) is Tensor and not torch.compiler.is_compiling()
        make = _kept_rotations if is_real else _make_rotations
        grid = (cameras.height // patch_size, cameras.width // patch_size)
        patch, inverse = make(patch_encoding, *grid, head_dim // 2, cameras.K.dtype, cameras.K.device)
    return TokenMaps(query=query, key_value=key_value, output=output, patch=patch, inverse_patch=inverse)


def check_head_dim(head_dim: int, *, camera_encoding: str, patch_encoding: str) -> None:
    """Check that encodings exist and fit the dimension of a head.

    Raises:
        ValueError: If an encoding is unknown, or `head_dim` is not a multiple of 8.
    """
    for name, value, known in (
        ("camera_encoding", camera_encoding, CAMERA_ENCODINGS),
        ("patch_encoding", patch_encoding, PATCH_ENCODINGS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if (camera_encoding, patch_encoding) != ("none", "none") and head_dim % 8:
        raise ValueError(
            f"dim / num_heads must be a multiple of 8 for camera_encoding={camera_encoding} and "
            f"patch_encoding={patch_encoding}, got {head_dim}; set num_heads or dim"
        )


def _projective_maps(
    cameras: Cameras, *, with_K: bool
) -> tuple[Float[Tensor, "batch view 4 4"], Float[Tensor, "batch view 4 4"]]:
    """P = lift(K) @ viewmat and its inverse; K is in units of the image size, relative to the image centre."""
    viewmat = invert_se3(cameras.camtoworld)
    if not with_K:
        return viewmat, cameras.camtoworld
    K = normalize_K(cameras.K, width=cameras.width, height=cameras.height)
    offset = torch.zeros_like(K)
    offset[..., :2, 2] = 0.5
    K = K - offset
    return matmul(_lift(K), viewmat), matmul(cameras.camtoworld, _lift(invert_K(K)))


def _lift(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4 4"]:
    lifted = torch.zeros(*matrix.shape[:-2], 4, 4, dtype=matrix.dtype, device=matrix.device)
    lifted[..., :3, :3] = matrix
    lifted[..., 3, 3] = 1
    return lifted


Rotations = tuple[PatchRotation, PatchRotation] | tuple[TripleRotation, TripleRotation]


def _make_rotations(
    encoding: str, rows: int, columns: int, num_features: int, dtype: torch.dtype, device: torch.device
) -> Rotations:
    """The rotations of all patches of an image, and their inverses."""
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    row, column = torch.meshgrid(torch.arange(rows, **options), torch.arange(columns, **options), indexing="ij")
    make = _rope2d if encoding == "rope2d" else _quaternion
    rotation: Any = make(column.flatten(), row.flatten(), num_features=num_features)
    return rotation, rotation.inverse()


@lru_cache(maxsize=32)
def _kept_rotations(*arguments: Any) -> Rotations:
    with torch.inference_mode(False):  # they may serve a training step later
        return _make_rotations(*arguments)


def _rope2d(column: Float[Tensor, " token"], row: Float[Tensor, " token"], *, num_features: int) -> PatchRotation:
    num_freqs = num_features // 4
    exponent = torch.arange(num_freqs, dtype=row.dtype, device=row.device) / num_freqs
    positions = torch.stack([column, row], dim=-1)
    angle = (positions[:, :, None] * ROTARY_BASE**-exponent)[:, :, None].expand(-1, -1, 2, -1).flatten(1)[:, None]
    # Row-vector form of (first, second) <- (cos first + sin second, cos second - sin first).
    sign = 1 - 2 * torch.arange(2, dtype=row.dtype, device=row.device)
    sin = (angle.sin().unflatten(-1, (2, 2, -1)) * sign[:, None]).flatten(-3)
    swap = torch.eye(num_features, dtype=row.dtype, device=row.device).unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)
    return PatchRotation(cos=angle.cos(), sin=sin, swap=swap)


def _quaternion(column: Float[Tensor, " token"], row: Float[Tensor, " token"], *, num_features: int) -> TripleRotation:
    """exp((log r_column + log r_row) / 2) for unit quaternions about two orthogonal axes (arXiv:2512.04963)."""
    num_triples = num_features // 3
    exponent = torch.arange(num_triples, dtype=row.dtype, device=row.device) / num_triples
    frequency = ROTARY_BASE**-exponent
    column, row = (position[:, None] * frequency for position in (column, row))
    # Half the sum of the two rotation vectors: columns rotate about the first axis, rows about the second.
    rotation_vector = torch.stack([column, row, torch.zeros_like(row)], dim=-1) / 2
    angle = rotation_vector.norm(dim=-1)[..., None, None]
    x, y, z = (rotation_vector / angle.squeeze(-1).clamp_min(1e-12)).unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=row.dtype, device=row.device)
    rotation = identity + angle.sin() * skew + (1 - angle.cos()) * (skew @ skew)
    return TripleRotation(matrix=rotation.transpose(-1, -2)[:, None])


def _apply(
    x: Float[Tensor, "batch view token head dim"],
    matrix: Float[Tensor, "batch view 4 4"] | None,
    patch: PatchRotation | TripleRotation | None,
    norm: HeadNorm | None,
) -> Float[Tensor, "batch view token head dim"]:
    if matrix is None and patch is None and norm is None:
        return x
    # Matrices must cancel with their inverses, for which bfloat16 is too coarse.
    with no_autocast(x.device.type):
        if isinstance(patch, TripleRotation) or (matrix is not None and matrix.requires_grad):
            return _apply_differentiably(x, matrix, patch, norm)
        return norm_and_map(
            x,
            weight=None if norm is None else norm.weight,
            eps=0.0 if norm is None else norm.eps,
            matrix=matrix,
            **dict.fromkeys(("cos", "sin", "swap")) if patch is None else vars(patch),
        )


def _apply_differentiably(
    x: Tensor, matrix: Tensor | None, patch: PatchRotation | TripleRotation | None, norm: HeadNorm | None
) -> Tensor:
    """The same as separate operations, for patch triples and for cameras that get gradients."""
    dtype = x.dtype
    x = x if norm is None else norm(x)
    x = x.float() if dtype in (torch.bfloat16, torch.float16) else x
    camera, place = x.chunk(2, dim=-1)
    if matrix is not None:
        tiles = camera.reshape(*camera.shape[:2], -1, 4)
        camera = (tiles @ matrix).view(camera.shape)
    if patch is not None:
        place = patch.apply(place)
    return torch.cat([camera, place], dim=-1).to(dtype)
