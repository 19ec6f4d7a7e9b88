"""Draw many views from one encoded scene, in pieces that fit into memory, and at any size."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from wnv.evaluation.supersampling import merge_shifted_images, shift_K, subpixel_shifts
from wnv.geometry.cameras import crop_K, scale_K
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


def render_views(
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


def render_supersampled(
    model: SceneModel,
    scene: Any,
    cameras: Cameras,
    times: Float[Tensor, " view"],
    *,
    render_size: Sequence[int],
    patch_size: int,
    views_per_call: int = 8,
) -> Float[Tensor, "view 3 height width"]:
    """Draw views of one encoded scene at the size of `cameras`, put together from pictures of `render_size`.

    Several shifted images make a larger one (`merge_shifted_images`); a different shape is cropped. The images come
    back on the CPU.

    Args:
        model: The model that encoded `scene`.
        scene: What `model.encode` returned for a batch of one.
        cameras: `view` cameras in the frame of the encoded context, on the model's device.
        times: The time of each view, as the context's times.
        render_size: Height and width of what the model draws, in pixels.
        patch_size: Side of the model's patches in pixels, of which `render_size` is a multiple.
        views_per_call: How many pictures are drawn together, at most, or those of one view.

    Raises:
        ValueError: If `render_size` is not two positive multiples of `patch_size`.
    """
    if len(render_size) != 2 or any(side < 1 or side % patch_size for side in render_size):
        raise ValueError(
            f"render_size must be [height, width] in pixels, multiples of the patch size {patch_size}, got "
            f"{list(render_size)}"
        )
    height, width = render_size
    # As fine as is asked for, or finer, and then made smaller.
    factor = math.ceil(max(cameras.height / height, cameras.width / width))
    scale = min(factor * height / cameras.height, factor * width / cameras.width)
    rows, columns = round(scale * cameras.height), round(scale * cameras.width)
    top, left = (factor * height - rows) // 2, (factor * width - columns) // 2
    shown_K = scale_K(cameras.K, scale_x=columns / cameras.width, scale_y=rows / cameras.height)
    coarse_K = scale_K(crop_K(shown_K, left=-left, top=-top), scale_x=1 / factor, scale_y=1 / factor)
    shifts = subpixel_shifts(factor=factor, patch_size=patch_size)
    shifted = Cameras(
        K=shift_K(coarse_K, [shift / factor for shift in shifts]),
        camtoworld=cameras.camtoworld[:, None, None].expand(-1, factor, factor, 4, 4),
        width=width,
        height=height,
    )
    images = []
    views_at_once = max(1, views_per_call // factor**2)
    for start in range(0, cameras.batch_shape[0], views_at_once):
        piece = shifted[start : start + views_at_once]
        moments = times[start : start + views_at_once].repeat_interleave(factor**2)
        flat = Cameras(K=piece.K.flatten(0, 2), camtoworld=piece.camtoworld.flatten(0, 2), width=width, height=height)
        drawn = render_views(model, scene, flat[None], moments[None], views_per_call=views_per_call)[0].cpu()
        for pictures in drawn.unflatten(0, (-1, factor, factor)):
            whole = pictures[0, 0] if factor == 1 else merge_shifted_images(pictures, shifts)
            images.append(whole[:, top : top + rows, left : left + columns])
    return _resize(torch.stack(images), height=cameras.height, width=cameras.width)


def render_path(
    model: SceneModel,
    context: Views,
    cameras: Cameras,
    times: Float[Tensor, " view"] | None = None,
    *,
    device: torch.device,
    render_size: Sequence[int] | None = None,
    patch_size: int = 8,
    views_per_call: int = 8,
) -> Float[Tensor, "view 3 height width"]:
    """Encode one scene's context and draw a camera path through it; the images come back on the CPU.

    Args:
        model: Any model with `encode` and `render`; it is moved to `device` and put in eval mode.
        context: The views that are given, batch axes `view`.
        cameras: The path, one camera a frame, in the frame of `context`; their image size is what comes back.
        times: The time of each frame, as the context's times; None is zero everywhere.
        device: Where to draw.
        render_size: Height and width of the pictures that the model draws and a frame is put together from
            (`render_supersampled`), where that is another size; None draws each frame as it is.
        patch_size: Side of the model's patches in pixels.
        views_per_call: How many pictures are drawn together.
    """
    model = model.to(device).eval()
    with torch.inference_mode():
        scene = model.encode(context[None].to(device))
        if render_size is not None and tuple(render_size) != (cameras.height, cameras.width):
            times = torch.zeros(cameras.batch_shape) if times is None else times
            return render_supersampled(
                model,
                scene,
                cameras.to(device),
                times.to(device),
                render_size=render_size,
                patch_size=patch_size,
                views_per_call=views_per_call,
            )
        drawn = render_views(
            model,
            scene,
            cameras[None].to(device),
            None if times is None else times[None].to(device),
            views_per_call=views_per_call,
        )
    return drawn[0].cpu()


def _resize(images: Float[Tensor, "view 3 _ _"], *, height: int, width: int) -> Float[Tensor, "view 3 height width"]:
    if images.shape[-2:] == (height, width):
        return images
    return functional.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)
