"""Products of small matrices that stay exact whatever the training precision is.

`torch.matmul` is rounded to bfloat16 under autocast and to TF32 where that is allowed, which moves a ray by pixels.
These sums of products are left alone by both, and cost nothing at 3x3 and 4x4.
"""

from jaxtyping import Float
from torch import Tensor


def matmul(left: Float[Tensor, "*#batch i j"], right: Float[Tensor, "*#batch j k"]) -> Float[Tensor, "*batch i k"]:
    """Matrix product of small matrices in the precision of the inputs; batch axes broadcast."""
    return (left[..., :, :, None] * right[..., None, :, :]).sum(dim=-2)


def transform(
    matrix: Float[Tensor, "*#batch i j"], vectors: Float[Tensor, "*#batch n j"]
) -> Float[Tensor, "*batch n i"]:
    """`matrix @ vector` for each of n vectors in the precision of the inputs; batch axes broadcast."""
    # Column by column: no temporary larger than the result, which matters for a ray per pixel.
    return sum(matrix[..., None, :, j] * vectors[..., :, j, None] for j in range(matrix.shape[-1]))
