"""The base class of protocols, and the default protocol."""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from wnv.data.datamodule import ExampleDataModule
from wnv.data.evaluation_index import IndexSampler
from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import ViewSampler
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.protocols.scenes import example_limit, open_scenes, scene_variant
from wnv.evaluation.summary import Listing


class Protocol(ABC):
    """The choice of context and target views, in one or several variants. Constructor arguments are the settings.

    Attributes:
        name: The protocol's name in tables and records.
        reference: The variant that the others are compared with; None if there is none.
        makes_films: Whether the targets of a case form a video.
    """

    name: str
    reference: str | None = None
    makes_films: bool = False

    @abstractmethod
    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """Make the variants from the validation scenes of the data."""

    def sampler(self, data: ExampleDataModule) -> ViewSampler | None:
        """The sampler that an index of this protocol is made with; None for the sampler of validation.

        Raises:
            ValueError: If the protocol only reads indices.
        """
        raise ValueError(
            f"protocol={self.name} reads an index and has no sampler to make one; make it with protocol=default, "
            "extrapolate, video, nested or dynamic"
        )


class SampledProtocol(Protocol):
    """A protocol of one variant whose frames are sampled, or read from an index.

    Args:
        index: JSON file of frames; None samples them. Scenes missing from the data are only counted.
        sampler: Chooses the frames if there is no index; None keeps the sampler of validation.

    Attributes:
        frames: The sampler in use; None is the sampler of validation.
    """

    def __init__(self, index: str | Path | None, sampler: ViewSampler | None) -> None:
        self._sampler = sampler
        self.frames = sampler if index is None else IndexSampler(path=index, allow_missing=True)

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """Return the only variant."""
        return [scene_variant("", data, open_scenes(data, sampler=self.frames))]

    def sampler(self, data: ExampleDataModule) -> ViewSampler | None:
        """The sampler without an index."""
        return self._sampler


class Default(Protocol):
    """The examples that validation during training uses."""

    name = "default"

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """Return the only variant."""
        dataset = data.val_dataset
        if isinstance(dataset, SceneDataset):
            return [scene_variant("", data, dataset)]
        variant = Variant("", dataset, limit=example_limit(data))
        variant.listing = Listing(num_listed=len(variant))
        return [variant]

    def sampler(self, data: ExampleDataModule) -> None:
        """The sampler of validation."""
        return None


def check_numbers(name: str, numbers: Any, *, at_least: float | int | None = None, whole: bool = False) -> None:
    """Check that a setting is a list of finite numbers; with `at_least`, one or more different ones of that size."""
    kinds = int if whole else (int, float)
    is_list = isinstance(numbers, (list, tuple))
    if not is_list or not all(isinstance(n, kinds) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise ValueError(f"{name} must be a list of {'whole ' if whole else ''}numbers, e.g. [2,4], got {numbers!r}")
    if at_least is not None and (
        not numbers or len(set(numbers)) != len(numbers) or any(number < at_least for number in numbers)
    ):
        raise ValueError(f"{name} must be different numbers of at least {at_least:g}, got {list(numbers)}")


def choose_frames(protocol: Protocol, data: ExampleDataModule) -> dict[str, dict[str, list[int]] | None]:
    """Make an evaluation index: the frames that a protocol chooses per scene, None for scenes that are too short."""
    dataset = open_scenes(data, sampler=protocol.sampler(data), skip_short=True)
    if len(set(dataset.scene_ids)) != len(dataset):
        raise ValueError(
            f"an index has one choice of frames per scene, got {len(dataset)} for {len(dataset.scene_ids)} scenes from "
            f"{type(dataset.sampler).__name__}; choose another sampler or protocol"
        )
    limit = example_limit(data)
    chosen = {}
    for index, scene in enumerate(dataset.scene_ids[:limit]):
        choice = dataset.pick(index).choice
        chosen[scene] = {"context": list(choice.context), "target": list(choice.target)}
    return {scene: chosen.get(scene) for scene in dataset.num_frames if scene in chosen or limit is None}
