"""What a method without any learning scores: the context view nearest to the target, copied."""

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.poses import nearest_pose
from wnv.types import Batch


def copy_nearest(batch: Batch) -> Float[Tensor, "batch target 3 height width"]:
    """For each target view the image of the context view whose camera is nearest to it, as it is.

    What near means is `wnv.geometry.poses.nearest_pose`'s business; the focal length does not count.

    Raises:
        ValueError: If context and target images differ in size.
    """
    context, target = batch.context, batch.target
    if context.images.shape[-2:] != target.images.shape[-2:]:
        raise ValueError(
            "copying a view needs context and target images of one size (height, width), got "
            f"{tuple(context.images.shape[-2:])} and {tuple(target.images.shape[-2:])}"
        )
    nearest = nearest_pose(target.cameras.camtoworld, context.cameras.camtoworld)
    scene = torch.arange(len(batch), device=nearest.device)[:, None]
    return context.images[scene, nearest]
