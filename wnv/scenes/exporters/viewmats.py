"""Poses the other way round, in float64, for formats that store camera<-world."""

import numpy as np
from jaxtyping import Float64


def viewmats(camtoworld: Float64[np.ndarray, "frame 4 4"]) -> Float64[np.ndarray, "frame 4 4"]:
    """camera<-world of rigid poses, in closed form."""
    rotation = camtoworld[:, :3, :3].swapaxes(1, 2)
    inverse = np.tile(np.eye(4), (len(camtoworld), 1, 1))
    inverse[:, :3, :3] = rotation
    # Adding zero turns -0.0 into 0.0.
    inverse[:, :3, 3] = -(rotation @ camtoworld[:, :3, 3:])[:, :, 0] + 0.0
    return inverse
