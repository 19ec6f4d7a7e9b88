"""The variants of a protocol, each a data set of cases."""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import cast

from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset

from wnv.data.scene_dataset import Pick, SceneDataset
from wnv.evaluation.summary import Listing
from wnv.types import Example

ExampleChange = Callable[[Example], Example]
MaskMaker = Callable[[Pick], Bool[Tensor, "target height width"]]


@dataclass(frozen=True)
class Case:
    """One context with its targets.

    Attributes:
        example: Context and target views, as in training.
        context_frames: Frame numbers of the context views in the scene; None if scenes have no numbered frames.
        target_frames: The same for the target views.
        masks: Target pixels to score separately, such as those visible in the context; None if there are none.
    """

    example: Example
    context_frames: tuple[int, ...] | None = None
    target_frames: tuple[int, ...] | None = None
    masks: Bool[Tensor, "target height width"] | None = None


class Variant(Dataset[Case]):
    """The cases of one variant of a protocol.

    Args:
        name: The variant's name, e.g. `zoom=3`; empty if the protocol has only one.
        examples: A data set or a list; a `SceneDataset` also provides frame numbers.
        limit: Use only the first `limit` examples; None uses all.
        listing: The scenes that the protocol lists; None if it lists exactly those of `examples`.
        change: Applied to each example, after its cameras are normalised.
        make_masks: Makes the masks of a case of a `SceneDataset`.
    """

    def __init__(
        self,
        name: str,
        examples: Dataset[Example] | Sequence[Example],
        *,
        limit: int | None = None,
        listing: Listing | None = None,
        change: ExampleChange | None = None,
        make_masks: MaskMaker | None = None,
    ) -> None:
        self.name = name
        self.examples = examples
        self.listing = listing
        self.change = change
        self.make_masks = make_masks
        num_examples = len(cast(Sized, examples))  # torch's Dataset declares no length
        self._length = num_examples if limit is None else min(limit, num_examples)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Case:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Case]:
        """Load several cases, together if the data set supports it."""
        if isinstance(self.examples, SceneDataset):
            return [self._load(self.examples, index) for index in indices]
        together = getattr(self.examples, "__getitems__", None)
        examples = together(indices) if together is not None else [self.examples[index] for index in indices]
        return [Case(self._changed(example)) for example in examples]

    def scene_of(self, index: int) -> str | None:
        """The scene of a case; None if the case must be loaded to know it."""
        if isinstance(self.examples, (list, tuple)):
            return self.examples[index].scene
        scene_of = getattr(self.examples, "scene_of", None)
        return None if scene_of is None else scene_of(index)

    def _load(self, dataset: SceneDataset, index: int) -> Case:
        pick = dataset.pick(index)
        return Case(
            example=self._changed(dataset.load(pick)),
            context_frames=pick.choice.context,
            target_frames=pick.choice.target,
            masks=None if self.make_masks is None else self.make_masks(pick),
        )

    def _changed(self, example: Example) -> Example:
        return example if self.change is None else self.change(example)
