"""From arrays of numpy to arrays of numpy: images with cameras in any world in, images out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wnv.geometry.poses import fit_world_frame, is_rigid
from wnv.types import Cameras, Views

VIEWS_AT_ONCE = 8  # bounds the memory


class RenderImagesMixin:
    """`render_images` for a module with `encode`, `render` and `pose_normalization`."""

    def render_images(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        K: np.ndarray,
        camtoworld: np.ndarray,
        target_camtoworld: np.ndarray,
        *,
        target_K: np.ndarray | None = None,
        times_s: Sequence[float] | None = None,
        target_times_s: Sequence[float] | None = None,
    ) -> np.ndarray:
        """Draw a place, of which some images are given, from other cameras.

        The world may have any origin and unit: it is placed and scaled around the given cameras as it was in training.

        Args:
            images: The given images, all of one size: RGB, `view height width 3`, bytes or floats in 0..1. Height and
                width are multiples of the patch size.
            K: Intrinsics in pixels of these images, `3 3` for all or `view 3 3`; the first pixel's centre is at
                (0.5, 0.5).
            camtoworld: world<-camera of each image in OpenCV axes (+x right, +y down, +z forward), `view 4 4`.
            target_camtoworld: The cameras to draw from, in the same world: `4 4`, or `target 4 4` for several.
            target_K: Their intrinsics, `3 3` or `target 3 3`; None takes those of the first given image.
            times_s: When each image was taken, in seconds on any clock, for weights that know of time.
            target_times_s: The time of each target on that clock.

        Returns:
            The images, bytes: `height width 3` for one camera, `target height width 3` for several.

        Raises:
            ValueError: If an array has the wrong shape or values that cannot be what it stands for, or the model has
                diverged.
        """
        stacked = _stack_images(images)
        num_views, height, width = stacked.shape[:3]
        context_poses = _check_poses("camtoworld", camtoworld, num=num_views)
        is_single = np.ndim(target_camtoworld) == 2
        target_poses = _check_poses("target_camtoworld", [target_camtoworld] if is_single else target_camtoworld)
        context_K = _check_K("K", K, num=num_views)
        targets_K = context_K[:1].expand(len(target_poses), 3, 3)
        if target_K is not None:
            targets_K = _check_K("target_K", target_K, num=len(target_poses))
        context_times, target_times = _window_times(times_s, target_times_s, num_views, len(target_poses))

        frame = fit_world_frame(context_poses, method=self.pose_normalization)
        size = {"height": height, "width": width}
        weight = next(self.parameters())
        # Cameras are not rounded to the half precision that weights may have; and they are cast before they are moved,
        # because the device may know no float64.
        dtype = torch.promote_types(weight.dtype, torch.float32)
        context = Views(
            images=stacked.movedim(-1, -3),
            cameras=Cameras(K=context_K, camtoworld=frame.apply(context_poses), **size),
            times=context_times,
        )
        targets = Cameras(K=targets_K, camtoworld=frame.apply(target_poses), **size)
        context, targets, times = (part.to(dtype).to(weight.device) for part in (context, targets, target_times))
        rendered = []
        with torch.inference_mode():
            scene = self.encode(context[None])
            for start in range(0, len(target_poses), VIEWS_AT_ONCE):
                piece = slice(start, start + VIEWS_AT_ONCE)
                rendered.append(self.render(scene, targets[None, piece], times[None, piece]))
        rendered = torch.cat(rendered, dim=1)[0]
        if not bool(torch.isfinite(rendered).all()):
            raise ValueError("the model drew values that are not finite: it has diverged in training")
        pixels = rendered.movedim(-3, -1).mul(255).round().to(torch.uint8).cpu().numpy()
        return pixels[0] if is_single else pixels


def _stack_images(images: np.ndarray | Sequence[np.ndarray]) -> Tensor:
    """The images as floats in 0..1, `view height width 3`."""
    shapes = {np.shape(image) for image in images}
    if len(shapes) != 1:
        found = "none" if not shapes else ", ".join(map(str, sorted(shapes)))
        raise ValueError(
            f"images must be at least one and all of one size, got {found}; resize or crop them, and their K"
        )
    stacked = np.stack([np.asarray(image) for image in images])
    if stacked.ndim != 4 or stacked.shape[-1] != 3 or stacked.size == 0:
        raise ValueError(f"images must have shape (view, height, width, 3), got {stacked.shape}")
    if stacked.dtype == np.uint8:
        return torch.from_numpy(stacked).float() / 255
    if not np.issubdtype(stacked.dtype, np.floating) or not (stacked.min() >= 0 and stacked.max() <= 1):
        raise ValueError(
            f"images must be bytes (uint8) or floats in 0..1, got {stacked.dtype} in {stacked.min()}..{stacked.max()}"
        )
    return torch.from_numpy(stacked.astype(np.float32))  # torch knows no long double


def _check_poses(name: str, poses: Any, *, num: int | None = None) -> Tensor:
    poses = torch.as_tensor(np.asarray(poses, dtype=np.float64))
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or len(poses) == 0 or num not in (None, len(poses)):
        expected = "(4, 4) or (target, 4, 4)" if num is None else f"({num}, 4, 4), one matrix an image"
        raise ValueError(f"{name} must have shape {expected}, got {tuple(poses.shape)}")
    wrong = (~is_rigid(poses, atol=1e-3)).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"{name} must hold rotations with translations (world<-camera, OpenCV axes, last row 0 0 0 1); matrices "
            f"{wrong} are not of this kind"
        )
    return poses


def _check_K(name: str, K: Any, *, num: int) -> Tensor:
    K = torch.as_tensor(np.asarray(K, dtype=np.float64))
    if K.shape not in ((3, 3), (num, 3, 3)):
        raise ValueError(f"{name} must have shape (3, 3) or ({num}, 3, 3), got {tuple(K.shape)}")
    below = K[..., [1, 2, 2, 2], [0, 0, 1, 2]]
    if not bool(K.isfinite().all()) or not bool((below == torch.tensor([0, 0, 0, 1])).all()):
        raise ValueError(f"{name} must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] in finite numbers, got {K.tolist()}")
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]])
    if not bool((focal > 4).all()):
        raise ValueError(
            f"{name} must be in pixels of the images, got a focal length of {focal.min():g}; of a normalised K, "
            "multiply the first row by the width and the second by the height"
        )
    return K.expand(num, 3, 3)


def _window_times(
    times_s: Sequence[float] | None, target_times_s: Sequence[float] | None, num_context: int, num_target: int
) -> tuple[Tensor, Tensor]:
    """Times as in training: 0..1 over all views of the call, or zeros where none are given."""
    if times_s is None and target_times_s is None:
        return torch.zeros(num_context), torch.zeros(num_target)
    for name, times, num in (("times_s", times_s, num_context), ("target_times_s", target_times_s, num_target)):
        if times is None or np.shape(times) != (num,):
            raise ValueError(
                f"{name} must be {num} times, one a view, where times are given, got "
                f"{'none' if times is None else np.shape(times)}"
            )
    times = torch.as_tensor(np.concatenate([times_s, target_times_s]), dtype=torch.float64)
    if not bool(times.isfinite().all()):
        raise ValueError(f"times_s and target_times_s must be finite, got {times.tolist()}")
    span = times.max() - times.min()
    normalised = ((times - times.min()) / span if span > 0 else torch.zeros_like(times)).float()
    return normalised[:num_context], normalised[num_context:]
