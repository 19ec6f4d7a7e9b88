"""A baseline without learning: copy the context view nearest to the target."""

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.poses import nearest_pose
from wnv.types import Batch


def copy_nearest(batch: Batch) -> Float[Tensor, "batch target 3 height width"]:
    """Return for each target view the unchanged image of the nearest context camera.

    Distance is that of `wnv.geometry.poses.nearest_pose`, which ignores focal lengths.

    Raises:
        ValueError: If context and target images differ in size.
    """
    context, target = batch.context, batch.target
    if context.images.shape[-2:] != target.images.shape[-2:]:
        raise ValueError(
            "context and target images must have one size (height, width) to copy views, got "
            f"{tuple(context.images.shape[-2:])} and {tuple(target.images.shape[-2:])}"
        )
    nearest = nearest_pose(target.cameras.camtoworld, context.cameras.camtoworld)
    scene = torch.arange(len(batch), device=nearest.device)[:, None]
    return context.images[scene, nearest]
