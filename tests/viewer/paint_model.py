"""A model with known images, and scenes for it."""

import torch

from wnv.evaluation.rendering import SceneModel
from wnv.geometry.rays import camera_rays
from wnv.synthetic.dataset import SyntheticDataset
from wnv.types import Cameras, Views
from wnv.viewer.scenes import example_scenes
from wnv.viewer.session import SceneSession


class PaintModel:
    """Paints smooth colours that depend on the ray, the camera centre, the context and the time."""

    def to(self, device: torch.device) -> "PaintModel":
        return self

    def eval(self) -> "PaintModel":
        return self

    def encode(self, context: Views) -> torch.Tensor:
        return context.images.mean(dim=(0, 1, 3, 4))

    def render(self, scene: torch.Tensor, cameras: Cameras, times: torch.Tensor) -> torch.Tensor:
        rays = camera_rays(cameras.K, height=cameras.height, width=cameras.width)
        rays = torch.einsum("...ij,...hwj->...ihw", cameras.camtoworld[..., :3, :3], rays)
        place = 2 * cameras.camtoworld[..., :3, 3] + 4 * scene + times[..., None]
        return 0.5 + 0.45 * torch.sin(4 * rays + place[..., None, None])


def open_synthetic(model: SceneModel) -> SceneSession:
    """A session of three wide dynamic synthetic scenes, starting with the second."""
    dataset = SyntheticDataset(num_scenes=3, image_size=(24, 40), num_context=2, num_target=3, kind="dynamic")
    scenes = example_scenes(dataset, name="synthetic:", first=1, is_dynamic=True)
    return SceneSession(model=model, scenes=scenes, device=torch.device("cpu"), patch_size=8)
