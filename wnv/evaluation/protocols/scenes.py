"""Cases cut from scenes of numbered frames: scene files, posed clips, and the synthetic world filmed."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from wnv.data.datamodule import ExampleDataModule
from wnv.data.evaluation_index import IndexSampler
from wnv.data.protocol_sampling import NestedSampler
from wnv.data.scene_datamodule import SceneDataModule
from wnv.data.scene_dataset import CameraChange, Pick, SceneDataset
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.data.view_sampling import BoundedSampler, ViewSampler
from wnv.evaluation.protocols.case import Case, Cases
from wnv.evaluation.summary import Listing
from wnv.synthetic.clips import SyntheticClips
from wnv.types import Example

SYNTHETIC_FRAMES = 49
"""Frames of a walk through a place of the synthetic world: enough for the gaps that the protocols ask for."""

ExampleChange = Callable[[Example], Example]
MaskMaker = Callable[[Pick], Bool[Tensor, "target height width"]]


def open_scenes(
    data: ExampleDataModule,
    *,
    sampler: ViewSampler | None = None,
    zoom: float | int | None = None,
    change_cameras: CameraChange | None = None,
    **settings: Any,
) -> SceneDataset:
    """The validation scenes of a data module under other rules than its own.

    The synthetic world is filmed: each of its validation places becomes a walk of `SYNTHETIC_FRAMES` frames.

    Args:
        data: Of scene files, or of the synthetic world.
        sampler: Which frames are shown and drawn; None: those that validation would.
        zoom: Zoom into the image centre, for all scenes alike; None: that of validation.
        change_cameras: Moves the poses before they are normalised.
        settings: Further arguments of `SceneDataset` that replace those of validation.

    Raises:
        FileNotFoundError: If there are no such scenes.
        ValueError: If the data are of another kind, or the scenes do not allow the sampler's choices.
    """
    if isinstance(data, SceneDataModule):
        given = data.val_settings | settings
        if sampler is not None:
            given["sampler"] = sampler
        if zoom is not None:
            given["zoom_range"] = (zoom, zoom)
    elif isinstance(data, SyntheticDataModule):
        given = _film(data.val_settings, sampler=sampler, zoom=zoom) | settings
    else:
        raise ValueError(
            f"this protocol needs scenes of one place, got a {type(data).__name__}; evaluate its sources one by "
            "one, as data=scenes data.root=..., or set protocol=default"
        )
    return SceneDataset(**given, change_cameras=change_cameras)


def _film(world: Mapping[str, Any], *, sampler: ViewSampler | None, zoom: float | int | None) -> dict[str, Any]:
    """The arguments of `SceneDataset` for the places of a `SyntheticDataset`."""
    height, width = world["image_size"]
    # A picture as much larger as it is zoomed into: then the zoomed part is rendered and not enlarged.
    fine = 1 if zoom is None else max(1, zoom)
    clips = SyntheticClips(
        num_frames=SYNTHETIC_FRAMES,
        image_size=(round(height * fine), round(width * fine)),
        zoom_range=world["zoom_range"] if zoom is None else (1.0, 1.0),
        **{
            name: world[name]
            for name in ("num_scenes", "seed", "kind", "zoom_per_view", "fov_deg", "supersample", "device")
        },
    )
    if sampler is None:
        sampler = BoundedSampler(
            num_context=world["num_context"],
            num_target=world["num_target"],
            min_gap=3 * (SYNTHETIC_FRAMES - 1) // 4,
            max_gap=SYNTHETIC_FRAMES - 1,
            extrapolate=world["extrapolate"],
        )
    return {
        "root": clips,
        "sampler": sampler,
        "image_size": (height, width),
        "zoom_range": (1.0, 1.0) if zoom is None else (zoom, zoom),
        "pose_normalization": world["pose_normalization"],
        "seed": world["seed"],
    }


def example_limit(data: ExampleDataModule) -> int | None:
    """How many examples validation stops after; None where it takes all."""
    return getattr(data, "num_val_examples", None)


class SceneCases(Cases):
    """The examples of a data set of scenes, with the numbers of their frames.

    Args:
        dataset: The scenes.
        limit: Only the first so many; None takes all.
        change: Made of each example, after its cameras have been normalised; None leaves it.
        make_masks: Gives the masks of the targets; None: there are none.
    """

    def __init__(
        self,
        dataset: SceneDataset,
        *,
        limit: int | None = None,
        change: ExampleChange | None = None,
        make_masks: MaskMaker | None = None,
    ) -> None:
        self.dataset = dataset
        self.change = change
        self.make_masks = make_masks
        self._length = len(dataset) if limit is None else min(limit, len(dataset))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Case:
        pick = self.dataset.pick(index)
        example = self.dataset.load(pick)
        return Case(
            example=example if self.change is None else self.change(example),
            context_frames=pick.choice.context,
            target_frames=pick.choice.target,
            masks=None if self.make_masks is None else self.make_masks(pick),
        )

    def scene_of(self, index: int) -> str:
        """The scene of a case."""
        return self.dataset.scene_of(index)


def list_wanted(dataset: SceneDataset) -> Listing:
    """What the sampler of a data set would evaluate if all scenes were there and long enough."""
    index = _index_of(dataset.sampler)
    if index is None:
        return Listing(num_listed=len(dataset.num_frames), num_null=len(dataset.num_frames) - len(dataset.scene_ids))
    missing = index.missing_scenes(list(dataset.num_frames))
    num_short = len(index.choices) - len(missing) - len(dataset.scene_ids)
    return Listing(
        num_listed=len(index.choices) + len(index.null_scenes),
        num_null=len(index.null_scenes) + num_short,
        missing=tuple(missing),
    )


def _index_of(sampler: ViewSampler) -> IndexSampler | None:
    while isinstance(sampler, NestedSampler):
        sampler = sampler.whole
    return sampler if isinstance(sampler, IndexSampler) else None
