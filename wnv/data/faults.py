"""Data that cannot be read: it ends the training, or other examples take its place."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch.utils.data import Dataset
from typing_extensions import override

from wnv.data.sample_order import SampleKey, seeded_generator
from wnv.types import Example, SkippedExample

OnError = Literal["raise", "skip"]
READ_ERRORS = (ValueError, OSError)
MAX_TRIES = 20


class DataError(ValueError):
    """The data ended a run: an example cannot be read, or too many cannot.

    It is raised between two steps, so weights and optimiser are sound.
    """


class GuardedDataset(Dataset[Example]):
    """The examples of a data set, with a rule for those that cannot be read.

    The example in place of another depends on that one's key alone, so the stream is the same for any number of
    processes, workers and restarts, as long as the same files are damaged.

    Args:
        dataset: The data set, indexed by `(epoch, index)` or an index.
        num_examples: Examples to choose replacements from; None for endless data.
        on_error: `raise` a `DataError`, or `skip`: another example of the same epoch, chosen at random, takes the
            place, and notes it in `Example.skipped`.
    """

    def __init__(self, dataset: Dataset[Example], *, num_examples: int | None, on_error: OnError) -> None:
        self.dataset = dataset
        self.num_examples = num_examples
        self.on_error = on_error

    def __len__(self) -> int:
        if self.num_examples is None:
            raise TypeError("endless data have no length")
        return self.num_examples

    @override
    def __getitem__(self, key: SampleKey | int) -> Example:
        epoch, first = (0, key) if isinstance(key, int) else key
        index, skipped = first, []
        for attempt in range(MAX_TRIES):
            try:
                example = self.dataset[(epoch, index)]
            except READ_ERRORS as error:
                reason = " ".join(str(error).split())
                if self.on_error == "raise":
                    raise DataError(f"{reason}; data.on_error=skip trains on without damaged examples") from error
                skipped.append(SkippedExample(scene=self._name(index), index=index, reason=reason))
                generator = seeded_generator(epoch, first, attempt)
                index = int(torch.randint(self.num_examples or 2**31, (), generator=generator))
            else:
                return replace(example, skipped=tuple(skipped)) if skipped else example
        raise DataError(
            f"{MAX_TRIES} examples in a row cannot be read, the last of scene {skipped[-1].scene}: {skipped[-1].reason}"
        )

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> list[Example]:
        """Examples of several keys, together where the data set can."""
        together: Any = getattr(self.dataset, "__getitems__", None)
        if together is not None:
            try:
                return together(keys)
            except READ_ERRORS:
                pass  # one by one, to find the damaged one
        return [self[key] for key in keys]

    def _name(self, index: int) -> str:
        scene_of: Any = getattr(self.dataset, "scene_of", str)
        return scene_of(index)
