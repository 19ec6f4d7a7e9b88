"""Samplers whose order depends on nothing but a seed and a position.

Training reads one endless stream of keys. The key at global position p is the same for any number of processes,
workers and restarts, so a run that resumes after p samples needs to know p alone.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DistributedSampler
from typing_extensions import override

SampleKey = tuple[int, int]
"""(epoch, example index): what a data set is indexed by. An example is sampled differently in each epoch; an index
alone means epoch 0."""


def seeded_generator(*parts: int) -> torch.Generator:
    """A CPU generator seeded by several numbers and their order.

    The numbers are hashed, so that neighbouring seeds and indices give unrelated streams.
    """
    digest = hashlib.blake2b(repr(tuple(int(part) for part in parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class ShardedSampler(DistributedSampler, ABC):
    """A sampler that yields the keys of one process. Lightning replaces samplers that are no `DistributedSampler`.

    Args:
        rank: This process, 0 <= rank < world_size.
        world_size: Number of processes that share the keys.

    Raises:
        ValueError: If the rank is out of range.
    """

    def __init__(self, *, rank: int, world_size: int) -> None:
        # DistributedSampler.__init__ is skipped: it asks for a data set with a length.
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..world_size-1, got rank={rank} and world_size={world_size}")
        self.rank = rank
        self.world_size = world_size


class StreamOrder(ShardedSampler):
    """An endless stream of keys, as seen by one of several processes.

    Rank r of n reads the global positions `start + r`, `start + r + n`, ...; all ranks together read each position
    once. `start` may be set between two iterations; each `iter()` begins there.

    Args:
        rank: This process, 0 <= rank < world_size.
        world_size: Number of processes that read the stream together.
        start: Samples that all processes together have consumed so far.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, *, rank: int, world_size: int, start: int) -> None:
        super().__init__(rank=rank, world_size=world_size)
        if start < 0:
            raise ValueError(f"start must be at least 0, got {start}")
        self.start = start

    @abstractmethod
    def key_at(self, position: int) -> Any:
        """The key at a global position, the same on every rank."""

    @override
    def __iter__(self) -> Iterator[Any]:
        position = self.start + self.rank
        while True:
            yield self.key_at(position)
            position += self.world_size

    @override
    def __len__(self) -> int:
        raise TypeError("an endless stream has no length")


class SampleOrder(StreamOrder):
    """The endless stream of training keys; an epoch visits every scene once.

    Global position p holds the key `(p // num_scenes, permutation[p % num_scenes])`, with a new permutation in every
    epoch.

    Args:
        num_scenes: Scenes per epoch; None for endless data, whose key at position p is `(0, p)`.
        seed: Seed of the permutations.
        rank, world_size, start: See `StreamOrder`.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        num_scenes: int | None,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        if num_scenes is not None and num_scenes < 1:
            raise ValueError(f"num_scenes must be at least 1, or None for endless data, got {num_scenes}")
        super().__init__(rank=rank, world_size=world_size, start=start)
        self.num_scenes = num_scenes
        self.seed = seed
        self._cached_permutation: tuple[int, list[int]] | None = None  # (epoch, permutation)

    @override
    def key_at(self, position: int) -> SampleKey:
        if self.num_scenes is None:
            return (0, position)
        epoch, index = divmod(position, self.num_scenes)
        return (epoch, self._permutation(epoch, self.num_scenes)[index])

    def _permutation(self, epoch: int, num_scenes: int) -> list[int]:
        if self._cached_permutation is None or self._cached_permutation[0] != epoch:
            generator = seeded_generator(self.seed, epoch)
            self._cached_permutation = (epoch, torch.randperm(num_scenes, generator=generator).tolist())
        return self._cached_permutation[1]


class EvaluationOrder(ShardedSampler):
    """The index of every example once, in order; each of several processes reads its own share.

    Nothing is padded and nothing is read twice, so shares may differ by one example.

    Args:
        num_scenes: Number of examples, at least 0.
        rank, world_size: See `ShardedSampler`.
    """

    def __init__(self, num_scenes: int, *, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(rank=rank, world_size=world_size)
        if num_scenes < 0:
            raise ValueError(f"num_scenes must be at least 0, got {num_scenes}")
        self.num_scenes = num_scenes

    @override
    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, self.num_scenes, self.world_size))

    @override
    def __len__(self) -> int:
        return len(range(self.rank, self.num_scenes, self.world_size))
