"""Protocols that ask for the same frames again, with the images or the world changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.data.datamodule import ExampleDataModule
from wnv.data.view_sampling import ViewSampler
from wnv.evaluation.protocols.case import Variant
from wnv.evaluation.protocols.protocol import Protocol, check_numbers, index_or, join_numbers, scene_variant
from wnv.evaluation.protocols.scenes import open_scenes
from wnv.geometry.poses import make_se3, pose_spread
from wnv.geometry.products import matmul
from wnv.types import Example

UNCHANGED = "unchanged"


class Zoom(Protocol):
    """All views magnified about the image centre, with K to match (arXiv:2507.10496).

    Stored images are cropped and enlarged, which blurs them: scores of different zooms are of different pictures, and
    it is the distance to the nearest context view that can be compared. The synthetic world is rendered anew.

    Args:
        zooms: Magnifications, at least 1 each.
        index: JSON file of frames; None: the frames of validation.

    Raises:
        ValueError: If a zoom is below 1.
    """

    name = "zoom"

    def __init__(self, *, zooms: Sequence[float | int] = (1, 3, 5), index: str | Path | None = None) -> None:
        self.zooms = join_numbers("zooms", zooms, least=1)
        self.reference = f"zoom={self.zooms[0]:g}"
        self._index = index

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """One a magnification."""
        sampler = index_or(self._index, None)
        return [
            scene_variant(f"zoom={zoom:g}", data, open_scenes(data, sampler=sampler, zoom=zoom)) for zoom in self.zooms
        ]

    def sampler(self, data: ExampleDataModule) -> ViewSampler | None:
        """The frames of validation."""
        return None


@dataclass(frozen=True, kw_only=True)
class WorldMove:
    """A similarity of the world, under which the images stay what they are.

    Attributes:
        scale: Factor of all lengths, about the world's origin.
        roll_deg: Angle about the axis that the first context camera looks along, through the origin.
        shift: Displacement along (1, 1, 1), in units of the context cameras' mean distance from their centre.
    """

    scale: float | int = 1.0
    roll_deg: float | int = 0.0
    shift: float | int = 0.0

    def __call__(
        self, camtoworld: Float[Tensor, "view 4 4"], context: Float[Tensor, "context 4 4"]
    ) -> Float[Tensor, "view 4 4"]:
        """The poses in the moved world."""
        x, y, z = context[0, :3, 2].unbind()
        zero, angle = torch.zeros_like(x), math.radians(self.roll_deg)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
        identity = torch.eye(3, dtype=camtoworld.dtype)
        rotation = identity + math.sin(angle) * skew + (1 - math.cos(angle)) * matmul(skew, skew)
        moved = matmul(make_se3(rotation, torch.zeros_like(context[0, :3, 3])), camtoworld)
        spread = pose_spread(context)
        step = self.shift * torch.where(spread > 0, spread, 1.0) / math.sqrt(3)
        return make_se3(moved[..., :3, :3], self.scale * moved[..., :3, 3] + step)


@dataclass(frozen=True)
class MoveNormalized:
    """The same move of an example whose cameras have been normalised: what the model itself is shown.

    Attributes:
        move: What is done to the cameras.
    """

    move: WorldMove

    def __call__(self, example: Example) -> Example:
        """The example in the moved world."""
        context, target = example.context.cameras.camtoworld, example.target.cameras.camtoworld
        moved = self.move(torch.cat([context, target]).double(), context.double()).float()
        parts = {"context": moved[: len(context)], "target": moved[len(context) :]}
        views = {name: getattr(example, name) for name in parts}
        return replace(
            example,
            **{
                name: replace(view, cameras=replace(view.cameras, camtoworld=parts[name]))
                for name, view in views.items()
            },
        )


class WorldChange(Protocol):
    """The same pictures in a world that was scaled, rolled or shifted: how far does the score move?

    Before the poses are normalised, such a change should do nothing at all: normalisation takes it out again. After it,
    the model itself meets a world that is larger, turned or elsewhere than any it was trained on.

    Args:
        scales: Factors of all lengths.
        rolls_deg: Angles about the viewing axis of the first context camera, degrees.
        shifts: Displacements of the origin, in units of the context cameras' mean distance from their centre.
        where: Whether changes are made `before` the poses are normalised, `after` it, or both in turn.
        index: JSON file of frames; None: the frames of validation.

    Raises:
        ValueError: If there is no change, or a number is out of its range.
    """

    name = "world_change"
    reference = UNCHANGED

    def __init__(
        self,
        *,
        scales: Sequence[float | int] = (0.5, 2),
        rolls_deg: Sequence[float | int] = (90,),
        shifts: Sequence[float | int] = (10,),
        where: Sequence[Literal["before", "after"]] = ("before", "after"),
        index: str | Path | None = None,
    ) -> None:
        if not where or len(set(where)) != len(where) or not set(where) <= {"before", "after"}:
            raise ValueError(f"where must be [before], [after] or [before,after], got {list(where)}")
        for name, numbers in (("scales", scales), ("rolls_deg", rolls_deg), ("shifts", shifts)):
            check_numbers(name, numbers)
        if any(scale <= 0 for scale in scales):
            raise ValueError(f"scales must be positive, got {list(scales)}")
        self.where = tuple(where)
        self.moves = {
            **{f"scale={scale:g}": WorldMove(scale=scale) for scale in scales},
            **{f"roll={angle:g}": WorldMove(roll_deg=angle) for angle in rolls_deg},
            **{f"shift={shift:g}": WorldMove(shift=shift) for shift in shifts},
        }
        if not self.moves:
            raise ValueError("world_change needs at least one of scales, rolls_deg and shifts, got none")
        self._index = index

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """The unchanged world, then one a change and place of it."""
        sampler = index_or(self._index, None)
        plain = open_scenes(data, sampler=sampler)
        found = [scene_variant(UNCHANGED, data, plain)]
        for where in self.where:
            for name, move in self.moves.items():
                if where == "before":
                    dataset = open_scenes(data, sampler=sampler, change_cameras=move)
                    found.append(scene_variant(f"before:{name}", data, dataset))
                else:
                    found.append(scene_variant(f"after:{name}", data, plain, change=MoveNormalized(move)))
        return found

    def sampler(self, data: ExampleDataModule) -> ViewSampler | None:
        """The frames of validation."""
        return None
