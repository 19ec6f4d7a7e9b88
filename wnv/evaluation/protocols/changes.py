"""Protocols that score the same frames again, with the images or the world changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.data.datamodule import ExampleDataModule
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.protocols.protocol import SampledProtocol, check_numbers
from wnv.evaluation.protocols.scenes import open_scenes, scene_variant
from wnv.geometry.poses import make_se3, pose_spread
from wnv.geometry.products import matmul
from wnv.types import Example

UNCHANGED = "unchanged"


class Zoom(SampledProtocol):
    """All views magnified about the image centre, with K to match (arXiv:2507.10496).

    Stored images are cropped and enlarged, which blurs them: scores of different zooms belong to different images,
    so compare their distances to the nearest context view. The synthetic world is rendered again per zoom.

    Args:
        zooms: Magnifications, each at least 1; the first is the reference.
        index: JSON file of frames; None uses the frames of validation.

    Raises:
        ValueError: If a zoom is below 1.
    """

    name = "zoom"

    def __init__(self, *, zooms: Sequence[float | int] = (1, 3, 5), index: str | Path | None = None) -> None:
        check_numbers("zooms", zooms, at_least=1)
        self.zooms = tuple(zooms)
        self.reference = f"zoom={self.zooms[0]:g}"
        super().__init__(index, None)

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """One variant per magnification."""
        return [
            scene_variant(f"zoom={zoom:g}", data, open_scenes(data, sampler=self.frames, zoom=zoom))
            for zoom in self.zooms
        ]


@dataclass(frozen=True, kw_only=True)
class WorldMove:
    """A similarity transform of the world that leaves all images unchanged.

    Attributes:
        scale: Factor of all lengths, about the world's origin.
        roll_deg: Rotation about the viewing axis of the first context camera, through the origin, in degrees.
        shift: Displacement along (1, 1, 1), in units of the context cameras' mean distance from their centre.
    """

    scale: float | int = 1.0
    roll_deg: float | int = 0.0
    shift: float | int = 0.0

    def __call__(
        self, camtoworld: Float[Tensor, "view 4 4"], context: Float[Tensor, "context 4 4"]
    ) -> Float[Tensor, "view 4 4"]:
        """Transform poses; `context` holds the poses of the context cameras."""
        x, y, z = context[0, :3, 2].unbind()
        zero, angle = torch.zeros_like(x), math.radians(self.roll_deg)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
        identity = torch.eye(3, dtype=camtoworld.dtype)
        rotation = identity + math.sin(angle) * skew + (1 - math.cos(angle)) * matmul(skew, skew)
        moved = matmul(make_se3(rotation, torch.zeros_like(context[0, :3, 3])), camtoworld)
        spread = pose_spread(context)
        step = self.shift * torch.where(spread > 0, spread, 1.0) / math.sqrt(3)
        return make_se3(moved[..., :3, :3], self.scale * moved[..., :3, 3] + step)


def move_example(example: Example, *, move: WorldMove) -> Example:
    """Apply a move to the normalised cameras of an example, as the model sees them."""
    context, target = example.context, example.target
    poses = torch.cat([context.cameras.camtoworld, target.cameras.camtoworld]).double()
    num_context = len(context.times)
    moved = move(poses, poses[:num_context]).float()
    return replace(
        example,
        context=replace(context, cameras=replace(context.cameras, camtoworld=moved[:num_context])),
        target=replace(target, cameras=replace(target.cameras, camtoworld=moved[num_context:])),
    )


class WorldChange(SampledProtocol):
    """The same images in a world that is scaled, rolled or shifted: how much does the score change?

    A change before the poses are normalised should have no effect, because normalisation removes it. A change after it
    shows the model a world that is larger, rotated or displaced compared with training.

    Args:
        scales: Factors of all lengths.
        rolls_deg: Rotations about the viewing axis of the first context camera, in degrees.
        shifts: Displacements of the origin, in units of the context cameras' mean distance from their centre.
        where: Apply changes `before` the poses are normalised, `after`, or both in turn.
        index: JSON file of frames; None uses the frames of validation.

    Raises:
        ValueError: If there is no change, or a number is out of range.
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
        super().__init__(index, None)

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """The unchanged world, then one variant per place and change."""
        unchanged = open_scenes(data, sampler=self.frames)
        variants = [scene_variant(UNCHANGED, data, unchanged)]
        for where in self.where:
            for name, move in self.moves.items():
                if where == "before":
                    dataset = open_scenes(data, sampler=self.frames, change_cameras=move)
                    variants.append(scene_variant(f"before:{name}", data, dataset))
                else:
                    change = partial(move_example, move=move)
                    variants.append(scene_variant(f"after:{name}", data, unchanged, change=change))
        return variants
