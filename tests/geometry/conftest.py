import pytest
import torch

from wnv.geometry.cameras import K_from_fov, crop_K, scale_K
from wnv.geometry.poses import random_se3
from wnv.types import Cameras

HEIGHT, WIDTH = 30, 44


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.fixture
def cameras(generator: torch.Generator) -> Cameras:
    """Five float64 cameras in general position: fx != fy, skewed, off-centre, height != width."""
    fov = 40 + 30 * torch.rand(5, generator=generator, dtype=torch.float64)
    K = scale_K(K_from_fov(fov_y_deg=fov, width=WIDTH, height=HEIGHT), scale_x=1.2, scale_y=0.9)
    K = crop_K(K, left=torch.linspace(0, 3, 5, dtype=torch.float64), top=-2.0)
    K[:, 0, 1] = 0.7
    camtoworld = random_se3((5,), generator=generator, dtype=torch.float64)
    return Cameras(K=K, camtoworld=camtoworld, width=WIDTH, height=HEIGHT)
