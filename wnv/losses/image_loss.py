"""The training loss: mean squared error plus an optional perceptual distance."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wnv.losses.perceptual import PerceptualLoss


class ImageLoss(nn.Module):
    """Mean squared error of pixels plus a weighted perceptual distance.

    Args:
        perceptual_weight: Weight of the perceptual distance; 0 needs no feature network. LVSM uses 0.5
            (arXiv:2410.17242).
        perceptual: The distance; by default that of VGG19, as in LVSM.

    Raises:
        ValueError: If the weight is negative.
        ImportError: If the weight is positive and torchvision is not installed.
        FileNotFoundError: If the weight is positive and VGG19's weights are not available.
    """

    def __init__(self, *, perceptual_weight: float | int = 0.0, perceptual: nn.Module | None = None) -> None:
        super().__init__()
        if perceptual_weight < 0:
            raise ValueError(f"perceptual_weight must not be negative, got {perceptual_weight}")
        self.perceptual_weight = float(perceptual_weight)
        # Checkpoints cannot rebuild a loss with a custom distance.
        self.config = {"perceptual_weight": self.perceptual_weight} if perceptual is None else None
        self.perceptual = None
        if perceptual_weight > 0:
            self.perceptual = PerceptualLoss() if perceptual is None else perceptual

    def forward(
        self, rendered: Float[Tensor, "*batch 3 height width"], truth: Float[Tensor, "*batch 3 height width"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Compute the loss of a batch in float32 (float64 for float64 images). Feature networks follow autocast.

        Returns:
            `loss` and its parts `mse` and, with a positive weight, `perceptual` (unweighted).
        """
        dtype = torch.promote_types(rendered.dtype, torch.float32)
        rendered, truth = rendered.to(dtype), truth.to(dtype)
        mse = (rendered - truth).square().mean()
        if self.perceptual is None:
            return {"loss": mse, "mse": mse}
        perceptual = self.perceptual(rendered, truth)
        return {"loss": mse + self.perceptual_weight * perceptual, "mse": mse, "perceptual": perceptual}
