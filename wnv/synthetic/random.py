"""Random numbers of the synthetic world: one row per scene, independent of the other scenes of a batch."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_STREAMS = ("place", "cameras", "kind")


class UniformStream:
    """Uniform random numbers of several scenes, consumed from left to right.

    Row `i` depends on the seed, the stream and key `i` alone: a scene is the same alone and in any batch, and on any
    device.

    Args:
        seed: Seed of the whole synthetic world, at least 0.
        stream: Name of the stream; streams are independent of each other.
        keys: Key of each scene: integers of at least 0, the same number of them per scene.
        count: Numbers available per scene.
    """

    def __init__(self, *, seed: int, stream: str, keys: list[tuple[int, ...]], count: int) -> None:
        if seed < 0:
            raise ValueError(f"seed of the synthetic world must be at least 0, got {seed}")
        rows = [
            np.random.default_rng([_STREAMS.index(stream), seed, *key]).random(count, dtype=np.float32) for key in keys
        ]
        self._numbers = torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, count)
        self._used = 0

    @property
    def num_scenes(self) -> int:
        """Number of scenes."""
        return self._numbers.shape[0]

    def unit(self, *shape: int) -> Float[Tensor, "scene ..."]:
        """Numbers in [0, 1).

        Raises:
            RuntimeError: If fewer numbers are left.
        """
        count = math.prod(shape)
        if self._used + count > self._numbers.shape[1]:
            raise RuntimeError(f"count must be at least {self._used + count}, got {self._numbers.shape[1]}")
        taken = self._numbers[:, self._used : self._used + count]
        self._used += count
        return taken.reshape(self.num_scenes, *shape)

    def uniform(self, low: float | int, high: float | int, *shape: int) -> Float[Tensor, "scene ..."]:
        """Numbers in [low, high)."""
        return low + (high - low) * self.unit(*shape)

    def log_uniform(self, low: float | int, high: float | int, *shape: int) -> Float[Tensor, "scene ..."]:
        """Numbers in [low, high) whose logarithm is uniform."""
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def chance(self, probability: float, *shape: int) -> Bool[Tensor, "scene ..."]:
        """True with the given probability."""
        return self.unit(*shape) < probability

    def choice(self, weights: Float[Tensor, "*shape option"]) -> Int[Tensor, "scene ..."]:
        """Index of an option, with a probability proportional to its weight; each entry has its own weights."""
        cumulative = (weights / weights.sum(-1, keepdim=True)).cumsum(-1)[..., :-1]
        return (self.unit(*weights.shape[:-1])[..., None] >= cumulative).sum(-1)

    def normal(self, *shape: int) -> Float[Tensor, "scene ..."]:
        """Numbers from the standard normal distribution."""
        radius = torch.sqrt(-2 * torch.log1p(-self.unit(*shape)))
        return radius * torch.cos(2 * math.pi * self.unit(*shape))

    def direction(self, *shape: int) -> Float[Tensor, "scene *shape 3"]:
        """Unit vectors, uniform on the sphere."""
        vectors = self.normal(*shape, 3)
        return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(1e-6)


def axis_angle_rotation(axis: Float[Tensor, "*batch 3"], angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation by `angle` radians about a unit axis (Rodrigues)."""
    sine, versine = torch.sin(angle)[..., None, None], (1 - torch.cos(angle))[..., None, None]
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    outer = axis[..., :, None] * axis[..., None, :]
    identity = torch.eye(3, dtype=axis.dtype, device=axis.device)
    # The squared cross product matrix of a unit axis is axis axis^T - 1.
    return identity + sine * skew + versine * (outer - identity)


def hsv_to_rgb(
    hue: Float[Tensor, "*#batch"], saturation: Float[Tensor, "*#batch"], value: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch 3"]:
    """RGB in 0..1 from a hue in turns (any number) and a saturation and value in 0..1."""
    offsets = torch.tensor([5.0, 3.0, 1.0], device=hue.device)
    k = (offsets + 6 * hue[..., None]) % 6
    return value[..., None] * (1 - saturation[..., None] * torch.minimum(k, 4 - k).clamp(0, 1))
