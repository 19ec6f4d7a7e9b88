"""Products of small matrices in full precision.

`torch.matmul` rounds to bfloat16 under autocast and to TF32 if allowed, which moves rays by pixels. Neither affects
these sums of products, which cost nothing at 3x3 and 4x4.
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
    # Column by column: no temporary larger than the result, which matters for one ray per pixel.
    columns = (matrix[..., None, :, j] * vectors[..., :, j, None] for j in range(matrix.shape[-1]))
    return sum(columns)  # pyright: ignore[reportReturnType]  # never 0: there is a column
