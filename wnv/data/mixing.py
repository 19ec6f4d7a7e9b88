"""Several data sets mixed by weights into one stream that continues exactly where it stopped."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from wnv.data.datamodule import ExampleDataModule
from wnv.data.sample_order import SampleKey, SampleOrder, StreamOrder, seeded_generator
from wnv.data.scene_datamodule import SceneDataModule
from wnv.types import Batch, Example

MixedKey = tuple[int, SampleKey]
"""(source, key in that source)."""

# Sets the shuffling of blocks apart from that of scenes, which depends on the same seed.
_BLOCKS = -1


class MixedOrder(StreamOrder):
    """The endless stream of keys of several sources.

    The stream is made of blocks; each takes a fixed number of keys of every source, in an order shuffled anew. So the
    shares are exact in every block, and how far each source has got follows from the position alone. Each source
    goes through its own scenes in its own order: every scene once before any comes again.

    Args:
        sources: The order of each source.
        counts: How many keys of each source a block holds.
        seed: What the order inside the blocks depends on.
        rank: This process, 0 <= rank < world_size.
        world_size: How many processes read the stream together.
        start: Samples that all processes together have consumed before.
    """

    def __init__(
        self,
        sources: Sequence[SampleOrder],
        *,
        counts: Sequence[int],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        super().__init__(rank=rank, world_size=world_size, start=start)
        self.sources = tuple(sources)
        self.counts = tuple(counts)
        self.seed = seed
        self._turns = [source for source, count in enumerate(counts) for _ in range(count)]
        # The block last asked for: (number, the source of each key, and the how manieth of it in the block).
        self._block: tuple[int, list[tuple[int, int]]] | None = None

    def key_at(self, position: int) -> MixedKey:
        """The key at a global position, whoever reads it."""
        number, offset = divmod(position, len(self._turns))
        if self._block is None or self._block[0] != number:
            self._block = (number, self._shuffle(number))
        source, turn = self._block[1][offset]
        return source, self.sources[source].key_at(number * self.counts[source] + turn)

    def _shuffle(self, number: int) -> list[tuple[int, int]]:
        generator = seeded_generator(self.seed, _BLOCKS, number)
        taken = [0] * len(self.sources)
        block = []
        for index in torch.randperm(len(self._turns), generator=generator).tolist():
            source = self._turns[index]
            block.append((source, taken[source]))
            taken[source] += 1
        return block


class MixedDataset(Dataset[Example]):
    """The examples of several sources, by keys `(source, key)`."""

    def __init__(self, sources: Sequence[Dataset[Example]]) -> None:
        self.sources = tuple(sources)

    def __getitem__(self, key: MixedKey) -> Example:
        source, key_in_source = key
        return self.sources[source][key_in_source]


class JoinedDataset(Dataset[Example]):
    """The examples of several sources one after the other, by keys `(epoch, index)`.

    Args:
        sources: The data sets.
        lengths: How many examples of each, its first ones.
    """

    def __init__(self, sources: Sequence[Dataset[Example]], lengths: Sequence[int]) -> None:
        self.sources = tuple(sources)
        self._starts = [0, *accumulate(lengths)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, key: SampleKey | int) -> Example:
        """The example of a key `(epoch, index)`; an index alone means epoch 0."""
        epoch, index = (0, key) if isinstance(key, int) else key
        if not 0 <= index < len(self):
            raise IndexError(f"example index must be in 0..{len(self) - 1}, got {index}")
        source = bisect_right(self._starts, index) - 1
        return self.sources[source][(epoch, index - self._starts[source])]


class MixedDataModule(ExampleDataModule):
    """Several data modules mixed by weights.

    Training draws from every source by its weight, exactly so in every `block_size` samples; validation goes through
    the validation examples of all of them. The batch sizes and loader processes are those given here, not the sources'.

    Args:
        sources: Name -> data module, all of one image size and with the same numbers of views.
        weights: Name -> share of the training samples, relative to the sum; sources of weight 0 only validate. None
            gives each source the same.
        root: Where sources lie that share a place, for their configurations to refer to; nothing is read here.
        image_size: Height and width of the images in pixels, which every source must have; None: that of the sources.
        block_size: Samples within which the shares are exact, up to rounding to whole samples.
        batch_size: Training scenes per device and step.
        val_batch_size: Validation scenes per device and step; None takes `batch_size`.
        num_workers: Loader processes per device; 0 loads in the training process.
        seed: What the order of the sources depends on; each orders its scenes by its own seed.
        allow_changed_order: Continue from a checkpoint made with another seed, number of scenes or mixture.

    Raises:
        ValueError: If a number is out of its range, the sources do not fit together, or a weight is missing, negative
            or too small to come up in a block.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, ExampleDataModule],
        batch_size: int,
        weights: Mapping[str, float | int] | None = None,
        root: str | Path | None = None,
        image_size: Sequence[int] | None = None,
        block_size: int = 100,
        seed: int = 0,
        val_batch_size: int | None = None,
        num_workers: int = 0,
        allow_changed_order: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            batch_size=batch_size,
            val_batch_size=val_batch_size,
            num_workers=num_workers,
            allow_changed_order=allow_changed_order,
        )
        if not sources:
            raise ValueError("sources must name at least one data module, got none; add some under data.sources")
        sizes = {name: source.image_size for name, source in sources.items()}
        if len({*sizes.values(), *([] if image_size is None else [tuple(image_size)])}) != 1:
            raise ValueError(
                f"all sources must have one image_size{'' if image_size is None else f', {list(image_size)}'}, got "
                f"{', '.join(f'{name}: {list(size)}' for name, size in sizes.items())}"
            )
        self.root = root
        self.sources = dict(sources)
        self.counts = _counts(list(sources), weights, block_size)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return next(iter(self.sources.values())).image_size

    @property
    def num_train_scenes(self) -> int | None:
        """Training examples of all sources; None where one of them is endless."""
        numbers = [self.sources[name].num_train_scenes for name in self._trained()]
        return None if None in numbers else sum(numbers)

    @property
    def num_val_scenes(self) -> int:
        """Validation examples of all sources."""
        return sum(source.num_val_scenes for source in self.sources.values())

    def val_dataloader(self) -> DataLoader[Batch]:
        """As that of every data module; scenes of a source that are trained on as well are warned about."""
        for name in self._trained():
            if isinstance(self.sources[name], SceneDataModule):
                self.sources[name].warn_of_shared_scenes()
        return super().val_dataloader()

    def _trained(self) -> list[str]:
        return [name for name, count in self.counts.items() if count > 0]

    def _make_train_dataset(self) -> Dataset[Example]:
        return MixedDataset([self.sources[name].train_dataset for name in self._trained()])

    def _make_val_dataset(self) -> Dataset[Example]:
        sources = list(self.sources.values())
        return JoinedDataset([s.val_dataset for s in sources], [s.num_val_scenes for s in sources])

    def _order_settings(self) -> dict[str, Any]:
        sources = {name: self.sources[name] for name in self._trained()}
        return {
            "seed": [self.seed, *(source.seed for source in sources.values())],
            "num_scenes": {name: source.num_train_scenes for name, source in sources.items()},
            "counts": {name: self.counts[name] for name in sources},
        }

    def _make_order(self, *, rank: int, world_size: int) -> StreamOrder:
        names = self._trained()
        orders = [SampleOrder(self.sources[name].num_train_scenes, seed=self.sources[name].seed) for name in names]
        counts = [self.counts[name] for name in names]
        return MixedOrder(orders, counts=counts, seed=self.seed, rank=rank, world_size=world_size)


def _counts(names: Sequence[str], weights: Mapping[str, float | int] | None, block_size: int) -> dict[str, int]:
    """How many samples of each source a block holds: proportional, the largest remainders rounded up."""
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    weights = dict.fromkeys(names, 1.0) if weights is None else dict(weights)
    if set(weights) != set(names):
        raise ValueError(f"weights must name the sources {sorted(names)}, got {sorted(weights)}")
    total = sum(weights.values())
    if not all(0 <= weight < math.inf for weight in weights.values()) or not total > 0:
        raise ValueError(f"weights must be 0 or more and not all 0, got {weights}")
    shares = {name: block_size * weights[name] / total for name in names}
    counts = {name: math.floor(share) for name, share in shares.items()}
    by_remainder = sorted(names, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: block_size - sum(counts.values())]:
        counts[name] += 1
    lost = [name for name in names if weights[name] > 0 and counts[name] == 0]
    if lost:
        raise ValueError(
            f"a block of block_size={block_size} samples holds none of {', '.join(lost)}, whose weight is too small; "
            "raise the weight or block_size"
        )
    return counts
