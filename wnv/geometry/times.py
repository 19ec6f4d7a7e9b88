"""Times of views on the scale of the context."""

import torch
from jaxtyping import Float
from torch import Tensor


def normalize_times(
    times_s: Float[Tensor, " view"], context_times_s: Float[Tensor, " context"]
) -> Float[Tensor, " view"]:
    """Map the context's first time to 0 and its last to 1; targets may lie outside. As poses, by the context alone.

    A context with a single time has no scale: all times become 0.
    """
    first = context_times_s.min()
    span = context_times_s.max() - first
    normalized = (times_s - first) / span.clamp_min(torch.finfo(times_s.dtype).tiny)
    return torch.where(span > 0, normalized, 0).float()
