"""The perceptual loss of LVSM: L1 distance between features of a frozen VGG19."""

import os
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Last layers of the compared blocks in `vgg19().features` (ReLU 1_2, 2_2, 3_2, 4_2 and 5_2), and the divisors of their
# distances (arXiv:2410.17242, after arXiv:1707.09405), which give all blocks about the same weight.
_BLOCK_ENDS = (4, 9, 14, 23, 32)
_BLOCK_DIVISORS = (2.6, 4.8, 3.7, 5.6, 1.5 / 10)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class PerceptualLoss(nn.Module):
    """L1 distance between VGG19 features of two images, with average instead of maximum pooling.

    The distance of the pixels has weight 1, as in LVSM: LVSM's network reads 0..255 and it divides the sum by 255;
    torchvision's reads images divided by a standard deviation, by which the sum is multiplied here.

    The frozen network is not among the module's parameters, and so not in checkpoints.

    Args:
        blocks: Five consecutive parts of a feature network; None loads torchvision's VGG19.

    Raises:
        ImportError: If `blocks` is None and torchvision is not installed.
        FileNotFoundError: If `blocks` is None and VGG19's weights are neither cached nor downloadable.
    """

    def __init__(self, *, blocks: Sequence[nn.Module] | None = None) -> None:
        super().__init__()
        blocks = _vgg19_blocks() if blocks is None else blocks
        if len(blocks) != len(_BLOCK_DIVISORS):
            raise ValueError(f"blocks must be {len(_BLOCK_DIVISORS)} modules, got {len(blocks)}")
        network = nn.ModuleList(blocks).eval().requires_grad_(False)
        self._network = (network,)  # a tuple hides it from parameters() and state_dict()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(
        self, rendered: Float[Tensor, "*batch 3 height width"], truth: Float[Tensor, "*batch 3 height width"]
    ) -> Float[Tensor, ""]:
        """Compute the mean distance over all images, in the precision of this module.

        Args:
            rendered: In 0..1; receives gradients.
            truth: In 0..1.
        """
        network = self._network[0].to(self.mean)
        one, other = (
            (images.flatten(0, -4).to(self.mean.dtype) - self.mean) / self.std for images in (rendered, truth)
        )
        distance = (one - other).abs().mean()
        for block, divisor in zip(network, _BLOCK_DIVISORS, strict=True):
            one = block(one)
            with torch.no_grad():
                other = block(other)
            wide = torch.promote_types(one.dtype, torch.float32)  # autocast leaves means in half precision
            distance = distance + (one.to(wide) - other.to(wide)).abs().mean() / divisor
        return distance * self.std.mean()


def _vgg19_blocks() -> list[nn.Module]:
    try:
        from torchvision.models import VGG19_Weights, vgg19  # pyright: ignore[reportMissingImports]  # optional
    except ImportError as error:
        raise ImportError(
            "the perceptual loss needs torchvision: pip install 'wnv[perceptual]', or set loss.perceptual_weight=0"
        ) from error
    weights = VGG19_Weights.IMAGENET1K_V1
    network = vgg19()
    try:
        network.load_state_dict(weights.get_state_dict(progress=False, check_hash=True))
    except OSError as error:  # includes URLError
        cache = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))
        raise FileNotFoundError(
            f"VGG19's weights are not at {cache} and could not be downloaded ({error}): "
            f"put {weights.url} there, or set loss.perceptual_weight=0"
        ) from error
    layers = [
        nn.AvgPool2d(kernel_size=2, stride=2) if isinstance(layer, nn.MaxPool2d) else _not_in_place(layer)
        for layer in network.features
    ]
    starts = (0, *_BLOCK_ENDS[:-1])
    return [nn.Sequential(*layers[start:end]) for start, end in zip(starts, _BLOCK_ENDS, strict=True)]


def _not_in_place(layer: nn.Module) -> nn.Module:
    # An in-place ReLU would overwrite the output that the convolution saves for its gradient.
    return nn.ReLU() if isinstance(layer, nn.ReLU) else layer
