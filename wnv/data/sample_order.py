"""Which scene is drawn at which moment: orders that depend on nothing but a seed and a position.

Training reads an endless stream of keys. The stream is one for the whole run: the key at global position p is the same
for any number of processes, workers and restarts. So a run that continues after p samples needs to know p alone.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler

SampleKey = tuple[int, int]
"""(epoch, scene index): what a dataset is asked for. The same scene is drawn differently in different epochs."""


def seeded_generator(*parts: int) -> torch.Generator:
    """A CPU generator that depends on all of the numbers given and on their order.

    The numbers are hashed, so that neighbouring seeds and indices give unrelated streams.
    """
    digest = hashlib.blake2b(repr(tuple(int(part) for part in parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class StreamOrder(Sampler, ABC):
    """An endless stream of keys, as one of several processes sees it.

    Of `world_size` processes, number `rank` reads global positions `start + rank`, `start + rank + world_size`, ...; so
    all of them together read each position once. It has no length. `start` may be set between two iterations; each
    `iter()` begins there.

    Args:
        rank: This process, 0 <= rank < world_size.
        world_size: How many processes read the stream together.
        start: Samples that all processes together have consumed before.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(self, *, rank: int, world_size: int, start: int) -> None:
        _check_rank(rank, world_size)
        if start < 0:
            raise ValueError(f"start must be the number of samples consumed so far, at least 0, got {start}")
        self.rank = rank
        self.world_size = world_size
        self.start = start

    @abstractmethod
    def key_at(self, position: int) -> Any:
        """The key at a global position, whoever reads it."""

    def __iter__(self) -> Iterator[Any]:
        position = self.start + self.rank
        while True:
            yield self.key_at(position)
            position += self.world_size


class SampleOrder(StreamOrder):
    """The endless stream of keys that training draws from; an epoch visits every scene once.

    Global position p holds the key `(p // num_scenes, permutation[p % num_scenes])`, with a new permutation every
    epoch.

    Args:
        num_scenes: Number of scenes of an epoch; None for an endless data set, whose key at position p is `(0, p)`.
        seed: What the permutations are drawn from.
        shuffle: Permute the scenes anew every epoch; False keeps their order.
        rank: This process, 0 <= rank < world_size.
        world_size: How many processes read the stream together.
        start: Samples that all processes together have consumed before.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        num_scenes: int | None,
        *,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        if num_scenes is not None and num_scenes < 1:
            raise ValueError(f"num_scenes must be at least 1, or None for an endless data set, got {num_scenes}")
        super().__init__(rank=rank, world_size=world_size, start=start)
        self.num_scenes = num_scenes
        self.seed = seed
        self.shuffle = shuffle
        # That of the epoch last asked for: (epoch, permutation).
        self._permutation: tuple[int, list[int]] | None = None

    def key_at(self, position: int) -> SampleKey:
        """The key at a global position, whoever reads it."""
        if self.num_scenes is None:
            return (0, position)
        epoch = position // self.num_scenes
        if self._permutation is None or self._permutation[0] != epoch:
            self._permutation = (epoch, self._permute(epoch))
        return (epoch, self._permutation[1][position % self.num_scenes])

    def _permute(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.num_scenes))
        return torch.randperm(self.num_scenes, generator=seeded_generator(self.seed, epoch)).tolist()


class EvaluationOrder(Sampler[SampleKey]):
    """Every scene once, in order and as in epoch 0; of several processes each reads its own share.

    Nothing is padded and nothing is read twice, so shares may differ by one scene.

    Args:
        num_scenes: Number of scenes, at least 0.
        rank: This process, 0 <= rank < world_size.
        world_size: How many processes share the scenes.
    """

    def __init__(self, num_scenes: int, *, rank: int = 0, world_size: int = 1) -> None:
        if num_scenes < 0:
            raise ValueError(f"num_scenes must be at least 0, got {num_scenes}")
        _check_rank(rank, world_size)
        self.num_scenes = num_scenes
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[SampleKey]:
        for index in range(self.rank, self.num_scenes, self.world_size):
            yield (0, index)

    def __len__(self) -> int:
        return len(range(self.rank, self.num_scenes, self.world_size))


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0..world_size-1, got rank {rank} of world_size {world_size}")
