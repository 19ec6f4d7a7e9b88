"""Cameras, views, examples and batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Group = TypeVar("Group", bound="_TensorGroup")


class _TensorGroup:
    """Base of dataclasses whose tensors are moved, cast and pinned together."""

    def to(self: Group, *args: Any, **kwargs: Any) -> Group:
        """Move or cast all tensors, as `Tensor.to`."""
        return self._apply(lambda part: part.to(*args, **kwargs))

    def pin_memory(self: Group) -> Group:
        """Copy all tensors to page-locked memory."""
        return self._apply(lambda part: part.pin_memory())

    def __repr__(self) -> str:
        """Show the shapes of tensors, not their values."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore[reportArgumentType]
        shown = (f"{name}={[*part.shape] if isinstance(part, Tensor) else repr(part)}" for name, part in parts.items())
        return f"{type(self).__name__}({', '.join(shown)})"

    def _apply(self: Group, function: Callable[[Any], Any]) -> Group:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore[reportArgumentType]
        groups = (Tensor, _TensorGroup)
        changed = {name: function(part) for name, part in parts.items() if isinstance(part, groups)}
        return replace(self, **changed)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, repr=False)
class Cameras(_TensorGroup):
    """Pinhole cameras of one image size, in OpenCV axes (+x right, +y down, +z forward).

    Attributes:
        K: Intrinsics (image<-camera) in pixels; the first pixel's centre is (0.5, 0.5).
        camtoworld: Poses (world<-camera), rigid, translations in scene units.
        width: Image width in pixels.
        height: Image height in pixels.
    """

    K: Float[Tensor, "*batch 3 3"]
    camtoworld: Float[Tensor, "*batch 4 4"]
    width: int
    height: int

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch axes."""
        return self.K.shape[:-2]

    def __getitem__(self, index: Any) -> "Cameras":
        """Index or slice the batch axes."""
        return self._apply(lambda part: part[index])


@dataclass(frozen=True, repr=False)
class Views(_TensorGroup):
    """Images with their cameras and times.

    Attributes:
        images: RGB in 0..1, `*batch 3 height width`.
        cameras: One camera per image.
        times: Time of each image: in seconds in scene files; in a batch of a dynamic scene 0 is the context's first
            time and 1 its last, in one of a static scene all are 0.
    """

    images: Float[Tensor, "*batch 3 height width"]
    cameras: Cameras
    times: Float[Tensor, "*batch"]

    def __getitem__(self, index: Any) -> "Views":
        """Index or slice the batch axes."""
        return self._apply(lambda part: part[index])


@dataclass(frozen=True)
class SkippedExample:
    """An example that could not be read, and in whose place another one stands.

    Attributes:
        scene: Scene id, or the example's number if the data set has no scene ids.
        index: Index of the example in its data set.
        reason: Why it could not be read, on one line.
    """

    scene: str
    index: int
    reason: str


@dataclass(frozen=True)
class Example:
    """One sample of a dataset, with batch axis `view`.

    Attributes:
        scene: Scene id.
        context: Input views.
        target: Views to render; their images are the ground truth.
        skipped: Examples in whose place this one stands.
    """

    scene: str
    context: Views
    target: Views
    skipped: tuple[SkippedExample, ...] = ()


@dataclass(frozen=True, repr=False)
class Batch(_TensorGroup):
    """Stacked examples, with batch axes `batch view`."""

    scenes: tuple[str, ...]
    context: Views
    target: Views
    skipped: tuple[SkippedExample, ...] = ()

    def __len__(self) -> int:
        return len(self.scenes)


def stack_cameras(cameras: Sequence[Cameras]) -> Cameras:
    """Stack cameras of one image size along a new first axis.

    Raises:
        ValueError: If the image sizes differ.
    """
    sizes = {(c.width, c.height) for c in cameras}
    if len(sizes) != 1:
        raise ValueError(f"cameras of one batch must have one (width, height), got {sorted(sizes)}; set image_size")
    return Cameras(
        K=torch.stack([c.K for c in cameras]),
        camtoworld=torch.stack([c.camtoworld for c in cameras]),
        width=cameras[0].width,
        height=cameras[0].height,
    )


def stack_views(views: Sequence[Views]) -> Views:
    """Stack views of one image size along a new first axis."""
    return Views(
        images=torch.stack([v.images for v in views]),
        cameras=stack_cameras([v.cameras for v in views]),
        times=torch.stack([v.times for v in views]),
    )


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples into a batch (a `collate_fn`).

    Raises:
        ValueError: If the examples differ in image size or number of views.
    """
    for part in ("context", "target"):
        counts = {len(getattr(example, part).times) for example in examples}
        if len(counts) != 1:
            raise ValueError(
                f"examples of one batch must have the same number of {part} views, got {sorted(counts)}; "
                "set batch_size=1 and val_batch_size=1 for examples with different numbers of views"
            )
    return Batch(
        scenes=tuple(example.scene for example in examples),
        context=stack_views([example.context for example in examples]),
        target=stack_views([example.target for example in examples]),
        skipped=tuple(skipped for example in examples for skipped in example.skipped),
    )
