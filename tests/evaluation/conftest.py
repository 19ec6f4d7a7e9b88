"""A small data set without a world behind it, and models whose scores are known."""

import pytest
import torch
from torch import Tensor, nn

from wnv.geometry.poses import nearest_pose, random_se3
from wnv.types import Cameras, Example, Views

HEIGHT, WIDTH = 16, 24


class RandomDataset(torch.utils.data.Dataset):
    """Scenes of unrelated smooth images, the same for the same index."""

    def __init__(self, num_scenes: int, *, num_context: int = 3, num_target: int = 2) -> None:
        self.num_scenes = num_scenes
        self.num_context = num_context
        self.num_target = num_target
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.num_scenes

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
        return Example(scene=f"scene-{index}", context=views[: self.num_context], target=views[self.num_context :])


class CopyModel(nn.Module):
    """Draws the context view whose camera is nearest."""

    def __init__(self) -> None:
        super().__init__()
        self.num_encoded = 0

    def encode(self, context: Views) -> Views:
        self.num_encoded += len(context.images)
        return context

    def render(self, scene: Views, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        nearest = nearest_pose(cameras.camtoworld, scene.cameras.camtoworld)
        return torch.stack([images[chosen] for images, chosen in zip(scene.images, nearest, strict=True)])


class PerfectModel(nn.Module):
    """Draws the truth, which it was told: it looks a camera's image up by its position."""

    def __init__(self, dataset: RandomDataset) -> None:
        super().__init__()
        targets = [dataset[i].target for i in range(len(dataset))]
        self.positions = torch.cat([target.cameras.camtoworld[:, :3, 3] for target in targets])
        self.images = torch.cat([target.images for target in targets])

    def encode(self, context: Views) -> None:
        return None

    def render(self, scene: None, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        positions = cameras.camtoworld[..., :3, 3]
        return self.images[torch.cdist(positions, self.positions.expand(len(positions), -1, -1)).argmin(-1)]


class GreyModel(nn.Module):
    """Draws one grey, of a brightness that each camera's position decides."""

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
def perfect_model(dataset: RandomDataset) -> PerfectModel:
    model = PerfectModel(dataset)
    dataset.loaded.clear()
    return model


@pytest.fixture
def grey_model() -> GreyModel:
    return GreyModel()
