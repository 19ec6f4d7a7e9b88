"""What a protocol hands to the evaluator: cases, one context with its targets each, in variants."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset

from wnv.evaluation.summary import Listing
from wnv.types import Example


@dataclass(frozen=True)
class Case:
    """One question to the model, with its answer.

    Attributes:
        example: Context and targets, as training has them.
        context_frames: Frame numbers of the context views in the scene file; None for worlds without frames.
        target_frames: Those of the targets.
        masks: Pixels of the targets that are scored separately, such as those that the context has seen; None where
            there is no such part.
    """

    example: Example
    context_frames: tuple[int, ...] | None = None
    target_frames: tuple[int, ...] | None = None
    masks: Bool[Tensor, "target height width"] | None = None


class Cases(Dataset[Case], ABC):
    """The cases of a variant, by numbers from 0 up; the same number gives the same case."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Case: ...

    def __getitems__(self, indices: Sequence[int]) -> list[Case]:
        """Several cases; each is what it would be by itself."""
        return [self[index] for index in indices]

    def scene_of(self, index: int) -> str | None:
        """The scene of a case, if it is known without loading it."""
        return None


class ExampleCases(Cases):
    """The examples of a data set, or of a list, as they are.

    Args:
        examples: What has a length and gives an example for a number.
        limit: Only the first so many; None takes all.
    """

    def __init__(self, examples: Dataset[Example] | Sequence[Example], *, limit: int | None = None) -> None:
        self.examples = examples
        self._length = len(examples) if limit is None else min(limit, len(examples))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Case:
        return Case(self.examples[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Case]:
        """Several cases, drawn together where the data set can do that."""
        together: Callable[[Sequence[int]], list[Example]] | None = getattr(self.examples, "__getitems__", None)
        return [Case(e) for e in (map(self.examples.__getitem__, indices) if together is None else together(indices))]

    def scene_of(self, index: int) -> str | None:
        """The scene of an example in a list; a data set would have to load it."""
        return self.examples[index].scene if isinstance(self.examples, (list, tuple)) else None


@dataclass(frozen=True)
class Variant:
    """One of the conditions under which a protocol asks its question.

    Attributes:
        name: Told from the others, as `zoom=3`; empty where there is only one.
        cases: What is asked.
        listing: What was to be asked; None: the cases.
    """

    name: str
    cases: Cases
    listing: Listing | None = None
