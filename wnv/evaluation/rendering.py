"""Render many views of one encoded scene, in chunks that fit into memory, and at any size."""

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
    """The interface of a model for evaluation: encode a scene once, then render any number of views."""

    def encode(self, context: Views) -> Any:
        """Encode context views, batch axes `batch view`."""

    def render(self, scene: Any, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        """Render the views of `cameras`, batch axes `batch view`, from an encoded scene; images in 0..1."""
        ...

    def to(self, device: torch.device) -> "SceneModel":
        """Move the model to a device, as `nn.Module.to`."""
        ...

    def eval(self) -> "SceneModel":
        """Put the model in evaluation mode, as `nn.Module.eval`."""
        ...


def render_views(
    model: SceneModel,
    scene: Any,
    cameras: Cameras,
    times: Float[Tensor, "batch view"] | None = None,
    *,
    views_per_call: int = 8,
) -> Float[Tensor, "batch view 3 height width"]:
    """Render views of encoded scenes, `views_per_call` at a time.

    The images do not depend on `views_per_call`, because targets do not attend to each other.

    `scene` is the result of `model.encode`, `cameras` are in the frame of its context, and `times` (zero by default) on
    the scale of the context's times.
    """
    if views_per_call < 1:
        raise ValueError(f"views_per_call must be at least 1, got {views_per_call}")
    chunks = []
    for start in range(0, cameras.batch_shape[1], views_per_call):
        part = slice(start, start + views_per_call)
        chunks.append(model.render(scene, cameras[:, part], None if times is None else times[:, part]))
    return torch.cat(chunks, dim=1)


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
    """Render views of one encoded scene at the size of `cameras`, supersampled from images of `render_size`.

    Several shifted images make a larger one (`merge_shifted_images`), which is cropped to the proportions of `cameras`.
    The images are returned on the CPU.

    The model renders at `render_size` (height, width), multiples of `patch_size`, at most `views_per_call` images
    together, except that those of one view always are. `scene` is the result of `model.encode` for a batch of one.

    Raises:
        ValueError: If `render_size` is not two positive multiples of `patch_size`.
    """
    if len(render_size) != 2 or any(side < 1 or side % patch_size for side in render_size):
        raise ValueError(
            f"render_size must be [height, width] in pixels, multiples of patch_size={patch_size}, got "
            f"{list(render_size)}"
        )
    height, width = render_size
    # At least as fine as requested, then reduced.
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
    merged = []
    views_at_once = max(1, views_per_call // factor**2)
    for start in range(0, cameras.batch_shape[0], views_at_once):
        part = shifted[start : start + views_at_once]
        part_times = times[start : start + views_at_once].repeat_interleave(factor**2)
        flat = Cameras(K=part.K.flatten(0, 2), camtoworld=part.camtoworld.flatten(0, 2), width=width, height=height)
        images = render_views(model, scene, flat[None], part_times[None], views_per_call=views_per_call)[0].cpu()
        for grid in images.unflatten(0, (-1, factor, factor)):
            whole = grid[0, 0] if factor == 1 else merge_shifted_images(grid, shifts)
            merged.append(whole[:, top : top + rows, left : left + columns])
    result = torch.stack(merged)
    size = (cameras.height, cameras.width)
    if result.shape[-2:] == size:
        return result
    return functional.interpolate(result, size, mode="bilinear", align_corners=False, antialias=True)


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
    """Encode the context of one scene and render views of it; the images are returned on the CPU.

    Args:
        model: The model; moved to `device` and put in eval mode.
        context: The context views, batch axes `view`.
        cameras: The cameras to render, in the frame of `context`; their size is that of the images.
        times: The time of each image, on the scale of the context's times; None is zero.
        device: Renders.
        render_size: Height and width in pixels at which the model renders; images of another size are supersampled.
            None renders at the size of `cameras`.
        patch_size: Side of the model's patches in pixels.
        views_per_call: Largest number of images rendered together.
    """
    model = model.to(device).eval()
    cameras = cameras.to(device)
    times = torch.zeros(cameras.batch_shape) if times is None else times
    times = times.to(device)
    with torch.inference_mode():
        scene = model.encode(context[None].to(device))
        if render_size is not None and tuple(render_size) != (cameras.height, cameras.width):
            return render_supersampled(
                model,
                scene,
                cameras,
                times,
                render_size=render_size,
                patch_size=patch_size,
                views_per_call=views_per_call,
            )
        return render_views(model, scene, cameras[None], times[None], views_per_call=views_per_call)[0].cpu()
