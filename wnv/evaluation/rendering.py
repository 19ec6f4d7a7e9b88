"""Draw many views from one encoded scene, in pieces that fit into memory."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.types import Cameras, Views


@runtime_checkable
class SceneModel(Protocol):
    """What the evaluation asks of a model: encode a scene once, draw any number of views from it."""

    def encode(self, context: Views) -> Any:
        """All that drawing needs of the context, batch axes `batch view`."""

    def render(self, scene: Any, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        """Images in 0..1 of the views that `cameras` (batch axes `batch view`) see of an encoded scene."""

    def to(self, device: torch.device) -> "SceneModel":
        """The model on a device, as `nn.Module.to`."""

    def eval(self) -> "SceneModel":
        """The model in evaluation mode, as `nn.Module.eval`."""


def draw_views(
    model: SceneModel,
    scene: Any,
    cameras: Cameras,
    times: Float[Tensor, "batch view"] | None = None,
    *,
    views_per_call: int = 8,
) -> Float[Tensor, "batch view 3 height width"]:
    """Draw the views `cameras` see of an encoded scene, `views_per_call` at a time.

    The pictures do not depend on `views_per_call`: targets do not see each other.

    Args:
        model: The model that encoded `scene`.
        scene: What `model.encode` returned for the batch.
        cameras: `batch view` cameras in the frame of the encoded context.
        times: The time of each view, as the context's times; None is zero everywhere.
        views_per_call: How many views of each scene are drawn together.

    Raises:
        ValueError: If `views_per_call` is less than 1.
    """
    if views_per_call < 1:
        raise ValueError(f"views_per_call must be at least 1, got {views_per_call}")
    pieces = []
    for start in range(0, cameras.batch_shape[1], views_per_call):
        piece = slice(start, start + views_per_call)
        pieces.append(model.render(scene, cameras[:, piece], None if times is None else times[:, piece]))
    return torch.cat(pieces, dim=1)


def draw_path(
    model: SceneModel,
    context: Views,
    cameras: Cameras,
    times: Float[Tensor, " view"] | None = None,
    *,
    device: torch.device,
    views_per_call: int = 8,
) -> Float[Tensor, "view 3 height width"]:
    """Encode one scene's context and draw a camera path through it; the images come back on the CPU.

    Args:
        model: Any model with `encode` and `render`; it is moved to `device` and put in eval mode.
        context: The views that are given, batch axes `view`.
        cameras: The path, one camera a frame, in the frame of `context`; their image size is what is drawn.
        times: The time of each frame, as the context's times; None is zero everywhere.
        device: Where to draw.
        views_per_call: How many frames are drawn together.
    """
    model = model.to(device).eval()
    with torch.inference_mode():
        scene = model.encode(context[None].to(device))
        drawn = draw_views(
            model,
            scene,
            cameras[None].to(device),
            None if times is None else times[None].to(device),
            views_per_call=views_per_call,
        )
    return drawn[0].cpu()
