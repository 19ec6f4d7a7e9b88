"""Several data sets mixed by weights into one resumable stream."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from typing_extensions import override

from wnv.data.datamodule import ExampleDataModule
from wnv.data.faults import GuardedDataset
from wnv.data.sample_order import SampleKey, SampleOrder, StreamOrder, seeded_generator
from wnv.data.scene_datamodule import SceneDataModule
from wnv.types import Example

MixedKey = tuple[int, SampleKey]
"""(source, key in that source)."""

# Separates the shuffling of blocks from that of scenes, which may have the same seed.
_BLOCKS = -1


class MixedOrder(StreamOrder):
    """The endless stream of keys of several sources.

    The stream consists of blocks. Each block holds a fixed number of keys of every source, in a new random order: the
    shares are exact in every block, and the position in each source follows from the global position alone. Each
    source keeps its own order: every scene once before any is repeated.

    Args:
        sources: The order of each source.
        counts: Keys of each source per block.
        seed: Seed of the order inside the blocks.
        rank, world_size, start: See `StreamOrder`.
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
        self._sources_in_block = [source for source, count in enumerate(counts) for _ in range(count)]
        # (number of the block, (source, index within the block's keys of that source) of each key).
        self._cached_block: tuple[int, list[tuple[int, int]]] | None = None

    @override
    def key_at(self, position: int) -> MixedKey:
        number, offset = divmod(position, len(self._sources_in_block))
        if self._cached_block is None or self._cached_block[0] != number:
            self._cached_block = (number, self._shuffle(number))
        source, index = self._cached_block[1][offset]
        return source, self.sources[source].key_at(number * self.counts[source] + index)

    def _shuffle(self, number: int) -> list[tuple[int, int]]:
        generator = seeded_generator(self.seed, _BLOCKS, number)
        order = torch.randperm(len(self._sources_in_block), generator=generator).tolist()
        indices = [iter(range(count)) for count in self.counts]
        return [(source, next(indices[source])) for source in (self._sources_in_block[i] for i in order)]


class MixedDataset(Dataset[Example]):
    """The examples of several sources, indexed by `(source, key)`."""

    def __init__(self, sources: Sequence[Dataset[Example]]) -> None:
        self.sources = tuple(sources)

    @override
    def __getitem__(self, key: MixedKey) -> Example:
        source, key_in_source = key
        return self.sources[source][key_in_source]


class MixedDataModule(ExampleDataModule):
    """Several data modules mixed by weights.

    Training samples every source by its weight, exactly so in every `block_size` samples. Validation reads the
    validation examples of all sources. Batch sizes and loader processes are set here; the sources' own are ignored.

    Args:
        sources: Name -> data module. All have one image size and the same numbers of views.
        weights: Name -> share of the training samples, relative to the sum; sources of weight 0 only validate. None
            weighs all alike.
        root: A common root for the configurations of the sources to refer to; not used here.
        image_size: Height and width of the images in pixels, checked against all sources; None skips the check.
        block_size: Samples within which the shares are exact, up to rounding to whole samples.
        **loading: `batch_size`, `val_batch_size`, `num_workers`, `seed` (of the order of the sources; each source
            orders its scenes by its own), `allow_changed_order`, `on_error`, `max_skipped_share`: see
            `ExampleDataModule`.

    Raises:
        ValueError: If a number is out of range, the sources do not fit together, or a weight is missing, negative or
            too small for a block.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, ExampleDataModule],
        weights: Mapping[str, float | int] | None = None,
        root: str | Path | None = None,
        image_size: Sequence[int] | None = None,
        block_size: int = 100,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if not sources:
            raise ValueError("sources must name at least one data module, got none; add some under data.sources")
        sizes = {name: list(source.image_size) for name, source in sources.items()}
        expected = next(iter(sizes.values())) if image_size is None else list(image_size)
        if any(size != expected for size in sizes.values()):
            raise ValueError(
                f"all sources must have one image_size, {expected}, got "
                + ", ".join(f"{name}: {size}" for name, size in sizes.items())
            )
        self.root = root
        self.sources = dict(sources)
        self.counts = _counts(list(sources), weights, block_size)

    @property
    @override
    def image_size(self) -> tuple[int, int]:
        return next(iter(self.sources.values())).image_size

    @property
    @override
    def num_train_scenes(self) -> int | None:
        numbers = [source.num_train_scenes for source in self._trained().values()]
        return None if None in numbers else sum(number or 0 for number in numbers)

    @cached_property
    def train_dataset(self) -> MixedDataset:
        """The training data set, created on first access."""
        return MixedDataset(
            [
                GuardedDataset(source.train_dataset, num_examples=source.num_train_scenes, on_error=self.on_error)
                for source in self._trained().values()
            ]
        )

    @cached_property
    def val_dataset(self) -> ConcatDataset:
        """The validation data set, created on first access."""
        return ConcatDataset(
            Subset(
                GuardedDataset(source.val_dataset, num_examples=source.num_val_scenes, on_error=self.on_error),
                range(source.num_val_scenes),
            )
            for source in self.sources.values()
        )

    @override
    def val_dataloader(self) -> DataLoader:
        for source in self._trained().values():
            if isinstance(source, SceneDataModule):
                source.warn_of_shared_scenes()
        return super().val_dataloader()

    def _trained(self) -> dict[str, ExampleDataModule]:
        return {name: source for name, source in self.sources.items() if self.counts[name] > 0}

    @override
    def _guard(self, dataset: Dataset[Example], num_examples: int | None) -> Dataset[Example]:
        return dataset  # its sources are guarded, so that a replacement comes from the same one

    @override
    def _order_settings(self) -> dict[str, Any]:
        sources = self._trained()
        return {
            "seed": [self.seed, *(source.seed for source in sources.values())],
            "num_scenes": {name: source.num_train_scenes for name, source in sources.items()},
            "counts": {name: self.counts[name] for name in sources},
        }

    @override
    def _make_order(self, *, rank: int, world_size: int) -> StreamOrder:
        sources = self._trained()
        orders = [SampleOrder(source.num_train_scenes, seed=source.seed) for source in sources.values()]
        counts = [self.counts[name] for name in sources]
        return MixedOrder(orders, counts=counts, seed=self.seed, rank=rank, world_size=world_size)


def _counts(names: Sequence[str], weights: Mapping[str, float | int] | None, block_size: int) -> dict[str, int]:
    """Samples of each source per block: proportional to its weight, the largest remainders rounded up."""
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
            f"weight of {', '.join(lost)} is too small for a sample in a block of block_size={block_size}; raise the "
            "weight or block_size"
        )
    return counts
