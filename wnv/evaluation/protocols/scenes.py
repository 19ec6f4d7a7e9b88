"""Scenes with numbered frames for the protocols: scene files, posed clips, and walks through the synthetic world."""

from collections.abc import Mapping
from typing import Any

from wnv.data.datamodule import ExampleDataModule
from wnv.data.evaluation_index import IndexSampler
from wnv.data.protocol_sampling import NestedSampler
from wnv.data.scene_datamodule import SceneDataModule
from wnv.data.scene_dataset import CameraChange, SceneDataset
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.data.view_sampling import BoundedSampler, ViewSampler
from wnv.evaluation.protocols.cases import ExampleChange, MaskMaker, Variant
from wnv.evaluation.summary import Listing
from wnv.synthetic.clips import SyntheticClips

SYNTHETIC_FRAMES = 49
"""Frames of a walk through a synthetic scene: enough for the gaps of all protocols."""


def open_scenes(
    data: ExampleDataModule,
    *,
    sampler: ViewSampler | None = None,
    zoom: float | int | None = None,
    change_cameras: CameraChange | None = None,
    **settings: Any,
) -> SceneDataset:
    """Open the validation scenes of a data module with different settings.

    Each validation scene of the synthetic world becomes a walk of `SYNTHETIC_FRAMES` frames.

    Args:
        data: A data module of scene files or of the synthetic world.
        sampler: Chooses the frames; None keeps the sampler of validation.
        zoom: Zoom into the image center, the same for all scenes; None keeps the zoom of validation.
        change_cameras: Applied to the poses before they are normalized.
        settings: Further arguments of `SceneDataset` that replace those of validation.
    """
    if isinstance(data, SceneDataModule):
        arguments = data.val_settings | settings
        if sampler is not None:
            arguments["sampler"] = sampler
        if zoom is not None:
            arguments["zoom_range"] = (zoom, zoom)
    elif isinstance(data, SyntheticDataModule):
        arguments = _synthetic_arguments(data.val_settings, sampler=sampler, zoom=zoom) | settings
    else:
        raise ValueError(
            f"this protocol needs scenes from a single source, got a {type(data).__name__}; evaluate its sources one "
            "by one, e.g. data=scenes data.root=..., or set protocol=default"
        )
    return SceneDataset(**arguments, change_cameras=change_cameras)


def scene_variant(
    name: str,
    data: ExampleDataModule,
    dataset: SceneDataset,
    *,
    change: ExampleChange | None = None,
    make_masks: MaskMaker | None = None,
) -> Variant:
    """Make a variant of the scenes in `dataset`, with as many examples as validation uses; see `Variant`."""
    return Variant(
        name, dataset, limit=example_limit(data), listing=_listing(dataset), change=change, make_masks=make_masks
    )


def example_limit(data: ExampleDataModule) -> int | None:
    """The largest number of examples that validation uses; None if it uses all."""
    return getattr(data, "num_val_examples", None)


def _synthetic_arguments(
    world: Mapping[str, Any], *, sampler: ViewSampler | None, zoom: float | int | None
) -> dict[str, Any]:
    """Turn the arguments of a `SyntheticDataset` into those of a `SceneDataset`."""
    height, width = world["image_size"]
    render_scale = 1 if zoom is None else max(1, zoom)  # the zoomed part is rendered, not enlarged
    clips = SyntheticClips(
        num_frames=SYNTHETIC_FRAMES,
        image_size=(round(height * render_scale), round(width * render_scale)),
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


def _listing(dataset: SceneDataset) -> Listing:
    sampler = dataset.sampler
    while isinstance(sampler, NestedSampler):
        sampler = sampler.whole
    if not isinstance(sampler, IndexSampler):
        return Listing(num_listed=len(dataset.num_frames), num_null=len(dataset.num_frames) - len(dataset.scene_ids))
    missing, too_short = sampler.missing_scenes(dataset.num_frames)
    return Listing(
        num_listed=len(sampler.choices) + len(sampler.null_scenes),
        num_null=len(sampler.null_scenes),
        missing=tuple(missing),
        too_short=tuple(too_short),
    )
