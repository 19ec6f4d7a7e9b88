import pytest
import torch

from wnv.geometry.poses import random_se3
from wnv.models.konet import KoNet
from wnv.types import Cameras, Views

TINY = dict(dim=64, num_layers=2, num_heads=2, mlp_dim=96, patch_size=8)


@pytest.fixture
def make_cameras():
    """Random cameras, batch axes `batch view`, with another focal length each; the image is wider than high."""

    def make(batch=2, view=3, height=16, width=24, seed=0, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        camtoworld = random_se3((batch, view), generator=generator, dtype=dtype)
        focal = width * (0.8 + torch.rand(batch, view, 2, generator=generator, dtype=dtype))
        K = torch.zeros(batch, view, 3, 3, dtype=dtype)
        K[..., 0, 0], K[..., 1, 1] = focal.unbind(-1)
        K[..., 0, 2], K[..., 1, 2], K[..., 2, 2] = width / 2 + 1.5, height / 2 - 0.7, 1
        return Cameras(K=K, camtoworld=camtoworld, width=width, height=height)

    return make


@pytest.fixture
def make_views(make_cameras):
    def make(batch=2, view=3, seed=0, dtype=torch.float32, **size):
        cameras = make_cameras(batch, view, seed=seed, dtype=dtype, **size)
        generator = torch.Generator().manual_seed(seed + 1)
        return Views(
            images=torch.rand(batch, view, 3, cameras.height, cameras.width, generator=generator, dtype=dtype),
            cameras=cameras,
            times=torch.rand(batch, view, generator=generator, dtype=dtype),
        )

    return make


@pytest.fixture
def make_model():
    """A small KoNet whose weights are large enough for every path to move the output."""

    def make(seed=0, **options):
        torch.manual_seed(seed)
        model = KoNet(**{**TINY, **options})
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=parameter.shape[-1] ** -0.5)
        return model.eval()

    return make
