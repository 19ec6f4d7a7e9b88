"""A small data set of random images, models with known scores, and the baseline in numpy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wnv.geometry.poses import nearest_pose, random_se3
from wnv.types import Cameras, Example, Views

HEIGHT, WIDTH = 16, 24


class RandomDataset(torch.utils.data.Dataset):
    """Scenes of unrelated smooth images; an index always gives the same scene."""

    def __init__(self, num_scenes: int, *, num_context: int = 3, num_target: int = 2) -> None:
        self.num_scenes = num_scenes
        self.num_context = num_context
        self.num_target = num_target
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.num_scenes

    def scene_of(self, index: int) -> str:
        return f"scene-{index}"

    def __getitem__(self, index: int) -> Example:
        self.loaded.append(index)
        generator = torch.Generator().manual_seed(index)
        num_views = self.num_context + self.num_target
        coarse = torch.rand(num_views, 3, 4, 6, generator=generator)
        images = nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bilinear")
        K = torch.tensor([[20.0, 0.0, WIDTH / 2], [0.0, 20.0, HEIGHT / 2], [0.0, 0.0, 1.0]])
        cameras = Cameras(
            K=K.expand(num_views, 3, 3).clone(),
            camtoworld=random_se3([num_views], generator=generator),
            width=WIDTH,
            height=HEIGHT,
        )
        views = Views(images=images, cameras=cameras, times=torch.zeros(num_views))
        return Example(scene=self.scene_of(index), context=views[: self.num_context], target=views[self.num_context :])


class CopyModel(nn.Module):
    """Renders the context view whose camera is nearest."""

    num_encoded = 0

    def encode(self, context: Views) -> Views:
        self.num_encoded += len(context.images)
        return context

    def render(self, scene: Views, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        nearest = nearest_pose(cameras.camtoworld, scene.cameras.camtoworld)
        return torch.stack([images[chosen] for images, chosen in zip(scene.images, nearest, strict=True)])


class PerfectModel(nn.Module):
    """Renders the ground truth: finds an image by its camera."""

    def __init__(self, targets: list[Views]) -> None:
        super().__init__()
        self.cameras = torch.cat([self.flat(target.cameras) for target in targets])
        self.images = torch.cat([target.images for target in targets])

    @staticmethod
    def flat(cameras: Cameras) -> Tensor:
        return torch.cat([cameras.camtoworld.flatten(-2), cameras.K.flatten(-2) / 100], dim=-1)

    def encode(self, context: Views) -> None:
        return None

    def render(self, scene: None, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        return self.images[(self.flat(cameras)[..., None, :] - self.cameras).abs().amax(-1).argmin(-1)]


class GreyModel(nn.Module):
    """Renders a grey that depends on the camera's position."""

    def encode(self, context: Views) -> None:
        return None

    def render(self, scene: None, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        grey = cameras.camtoworld[..., :3, 3].sum(-1).sigmoid()
        return grey[..., None, None, None].expand(*cameras.batch_shape, 3, cameras.height, cameras.width).clone()


@pytest.fixture
def dataset() -> RandomDataset:
    return RandomDataset(7)


@pytest.fixture
def copy_model() -> CopyModel:
    return CopyModel()


@pytest.fixture
def make_perfect_model() -> type[PerfectModel]:
    return PerfectModel


@pytest.fixture
def slow_copies() -> Callable[[Example], list[int]]:
    """The index of the context view nearest to each target, in numpy."""

    def find(example: Example) -> list[int]:
        poses = example.context.cameras.camtoworld.double().numpy()
        spread = np.linalg.norm(poses[:, :3, 3] - poses[:, :3, 3].mean(0), axis=1).mean()
        nearest = []
        for pose in example.target.cameras.camtoworld.double().numpy():
            cosines = [(np.trace(pose[:3, :3].T @ other[:3, :3]) - 1) / 2 for other in poses]
            distances = np.linalg.norm(poses[:, :3, 3] - pose[:3, 3], axis=1) / spread
            nearest.append(int((distances + np.arccos(np.clip(cosines, -1, 1))).argmin()))
        return nearest

    return find


@pytest.fixture
def slow_psnr() -> Callable[[Tensor, Tensor], list[float]]:
    """The PSNR of each image, in numpy."""

    def score(images: Tensor, truth: Tensor) -> list[float]:
        errors = ((images - truth).double().numpy() ** 2).mean(axis=(1, 2, 3))
        return [-10 * math.log10(error) for error in errors]

    return score


@pytest.fixture
def grey_model() -> GreyModel:
    return GreyModel()
