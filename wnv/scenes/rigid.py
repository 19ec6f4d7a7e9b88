"""Rigid transforms in NumPy; `wnv.geometry.poses` has them for tensors."""

import numpy as np
from jaxtyping import Float64


def invert_rigid(pose: Float64[np.ndarray, "*batch 4 4"]) -> Float64[np.ndarray, "*batch 4 4"]:
    """Invert rigid transforms in closed form, camtoworld to viewmat and back."""
    rotation = pose[..., :3, :3].swapaxes(-1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = rotation
    # Adding zero turns -0.0 into 0.0.
    inverse[..., :3, 3] = -(rotation @ pose[..., :3, 3:])[..., 0] + 0.0
    inverse[..., 3, 3] = 1.0
    return inverse
