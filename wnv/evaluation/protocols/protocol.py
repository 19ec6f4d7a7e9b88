"""What all protocols have in common, and the one that asks what validation asks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from wnv.data.datamodule import ExampleDataModule
from wnv.data.evaluation_index import IndexSampler
from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import ViewSampler
from wnv.evaluation.protocols.case import ExampleCases, Variant
from wnv.evaluation.protocols.scenes import SceneCases, example_limit, list_wanted, open_scenes
from wnv.evaluation.summary import Listing


class Protocol(ABC):
    """Which views are given and which are drawn, in one variant or several. Constructor arguments are its settings.

    Attributes:
        name: What it is called in tables.
        reference: The variant that the others are compared with; None where there is none.
        makes_films: Whether the targets of a case, in their order, are worth seeing as a film.
    """

    name: str
    reference: str | None = None
    makes_films: bool = False

    @abstractmethod
    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """The cases of all variants, of the validation scenes of the data.

        Raises:
            FileNotFoundError: If there are no scenes.
            ValueError: If the data do not allow what the protocol asks for.
        """

    def sampler(self, data: ExampleDataModule) -> ViewSampler | None:
        """The rules that an index of this protocol is made by; None: those of validation.

        Raises:
            ValueError: If the protocol has no rules of its own.
        """
        raise ValueError(
            f"protocol={self.name} reads an index and has no rules to make one by; make it with protocol=default, "
            "extrapolate, video, nested or dynamic"
        )


def index_or(index: str | Path | None, sampler: ViewSampler | None) -> ViewSampler | None:
    """The frames of an index where one is given, else a sampler's. Scenes that are missing are counted, no error."""
    return sampler if index is None else IndexSampler(path=index, allow_missing=True)


def scene_variant(name: str, data: ExampleDataModule, dataset: SceneDataset, **options: object) -> Variant:
    """A variant of all cases of a data set of scenes; `options` are those of `SceneCases`."""
    cases = SceneCases(dataset, limit=example_limit(data), **options)
    return Variant(name=name, cases=cases, listing=list_wanted(dataset))


def join_numbers(name: str, numbers: Sequence[float | int], *, least: float | int) -> tuple[float | int, ...]:
    """The numbers of a setting, checked: at least one, each once, none below the least.

    Raises:
        ValueError: If they are not so.
    """
    check_numbers(name, numbers)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < least:
        raise ValueError(f"{name} must be different numbers of at least {least:g}, got {list(numbers)}")
    return tuple(numbers)


def check_numbers(name: str, numbers: object, *, whole: bool = False) -> None:
    """Refuse what is no list of finite numbers, or of whole ones where only these mean something.

    Raises:
        ValueError: If it is none.
    """
    kinds = int if whole else (int, float)
    is_list = isinstance(numbers, (list, tuple))
    if not is_list or not all(isinstance(n, kinds) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise ValueError(f"{name} must be a list of {'whole ' if whole else ''}numbers, as [2,4], got {numbers!r}")


class Default(Protocol):
    """What validation during training asks: the data module's own examples."""

    name = "default"

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """The validation examples."""
        dataset = data.val_dataset
        if isinstance(dataset, SceneDataset):
            return [scene_variant("", data, dataset)]
        cases = ExampleCases(dataset, limit=example_limit(data))
        return [Variant(name="", cases=cases, listing=Listing(num_listed=len(cases)))]

    def sampler(self, data: ExampleDataModule) -> None:
        """The rules of validation."""
        return None


def choose_frames(protocol: Protocol, data: ExampleDataModule) -> Mapping[str, dict[str, list[int]] | None]:
    """The frames that a protocol chooses of each scene, as an evaluation index; None where a scene is too short.

    Args:
        protocol: Has rules to choose by.
        data: The scenes; its `val_seed` decides what is drawn.

    Raises:
        FileNotFoundError: If there are no scenes.
        ValueError: If the protocol has no rules, or chooses several times of a scene.
    """
    sampler = protocol.sampler(data)
    settings = {"skip_short": True}
    dataset = open_scenes(data, sampler=sampler, **settings)
    if len(set(dataset.scene_ids)) != len(dataset):
        raise ValueError(
            f"an index has one choice of frames a scene, got {len(dataset)} for {len(dataset.scene_ids)} scenes of "
            f"{type(dataset.sampler).__name__}; choose another sampler or protocol"
        )
    chosen = {}
    for index, scene in enumerate(dataset.scene_ids[: example_limit(data)]):
        choice = dataset.pick(index).choice
        chosen[scene] = {"context": list(choice.context), "target": list(choice.target)}
    return {scene: chosen.get(scene) for scene in dataset.num_frames if scene in chosen or example_limit(data) is None}
