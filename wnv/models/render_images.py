"""Render from NumPy arrays to NumPy arrays, with cameras in any world frame."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wnv.geometry.camera_checks import doubtful_cameras, doubtful_context
from wnv.geometry.poses import fit_world_frame, is_rigid
from wnv.geometry.times import normalize_times
from wnv.types import Cameras, Views

log = logging.getLogger(__name__)

VIEWS_AT_ONCE = 8  # bounds the memory


class RenderImagesMixin(nn.Module):
    """`render_images` for a module with `encode`, `render` and `pose_normalization`."""

    pose_normalization: Any
    encode: Callable[..., Any]
    render: Callable[..., Tensor]

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
        """Render a scene from new cameras, given some posed images.

        The world may have any origin and unit: it is normalised by the context cameras as in training.

        Args:
            images: Context images of one size: RGB, `view height width 3`, uint8 or floats in 0..1. Height and width
                must be multiples of the patch size.
            K: Intrinsics in pixels of these images, `3 3` for all or `view 3 3`; the first pixel's centre is at
                (0.5, 0.5).
            camtoworld: world<-camera of each image in OpenCV axes (+x right, +y down, +z forward), `view 4 4`.
            target_camtoworld: Target cameras in the same world: `4 4` for one or `target 4 4`.
            target_K: Intrinsics of the targets, `3 3` or `target 3 3`; default those of the first context image.
            times_s: Time of each image in seconds, on any clock, for models with `time_code`.
            target_times_s: Time of each target on the same clock.

        Returns:
            The images as uint8: `height width 3` for one camera, `target height width 3` for several.

        Raises:
            ValueError: If an array has an invalid shape or invalid values, or the model renders non-finite values.
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
        context_times, target_times = _normalize_times(times_s, target_times_s, num_views, len(target_poses))

        size = {"height": height, "width": width}
        given = Cameras(K=context_K, camtoworld=context_poses, **size)
        wanted = Cameras(K=targets_K, camtoworld=target_poses, **size)
        _warn_of_doubts(given, wanted, is_static=times_s is None)
        frame = fit_world_frame(context_poses, method=self.pose_normalization)
        weight = next(self.parameters())
        # Cameras stay in float32 with half-precision weights. They are cast before the move to a device that may lack
        # float64.
        dtype = torch.promote_types(weight.dtype, torch.float32)
        context = Views(
            images=stacked.movedim(-1, -3),
            cameras=replace(given, camtoworld=frame.apply(context_poses)),
            times=context_times,
        )
        targets = replace(wanted, camtoworld=frame.apply(target_poses))
        context, targets, times = (part.to(dtype).to(weight.device) for part in (context, targets, target_times))
        rendered = []
        with torch.inference_mode():
            scene = self.encode(context[None])
            for start in range(0, len(target_poses), VIEWS_AT_ONCE):
                piece = slice(start, start + VIEWS_AT_ONCE)
                rendered.append(self.render(scene, targets[None, piece], times[None, piece]))
        rendered = torch.cat(rendered, dim=1)[0]
        if not bool(torch.isfinite(rendered).all()):
            raise ValueError("the model rendered non-finite values: its training has diverged")
        pixels = rendered.movedim(-3, -1).mul(255).round().to(torch.uint8).cpu().numpy()
        return pixels[0] if is_single else pixels


def _warn_of_doubts(context: Cameras, targets: Cameras, *, is_static: bool) -> None:
    pairs = ((context.K, targets.K), (context.camtoworld, targets.camtoworld))
    K, camtoworld = (torch.cat(pair) for pair in pairs)
    doubts = doubtful_cameras(replace(context, K=K, camtoworld=camtoworld), is_static=False)
    for doubt in doubts + doubtful_context(context, targets, is_static=is_static):
        _warn_once(doubt)


@functools.cache  # a film may take one call per frame
def _warn_once(doubt: str) -> None:
    log.warning("cameras given to render_images: %s", doubt)


def _stack_images(images: np.ndarray | Sequence[np.ndarray]) -> Tensor:
    """Stack images as floats in 0..1, `view height width 3`."""
    shapes = {np.shape(image) for image in images}
    if len(shapes) != 1:
        raise ValueError(f"images must have one size, got {sorted(shapes)}; resize or crop them and their K")
    stacked = np.stack([np.asarray(image) for image in images])
    if stacked.ndim != 4 or stacked.shape[-1] != 3 or stacked.size == 0:
        raise ValueError(f"images must have shape (view, height, width, 3), got {stacked.shape}")
    if stacked.dtype == np.uint8:
        return torch.from_numpy(stacked).float() / 255
    if not np.issubdtype(stacked.dtype, np.floating) or not (stacked.min() >= 0 and stacked.max() <= 1):
        raise ValueError(
            f"images must be uint8, or floats in 0..1, got {stacked.dtype} in {stacked.min()}..{stacked.max()}"
        )
    return torch.from_numpy(stacked.astype(np.float32))  # torch has no long double


def _check_poses(name: str, poses: Any, *, num: int | None = None) -> Tensor:
    poses = torch.as_tensor(np.asarray(poses, dtype=np.float64))
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or len(poses) == 0 or num not in (None, len(poses)):
        expected = "(4, 4) or (target, 4, 4)" if num is None else f"({num}, 4, 4), one matrix per image"
        raise ValueError(f"{name} must have shape {expected}, got {tuple(poses.shape)}")
    wrong = (~is_rigid(poses, atol=1e-3)).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"{name} must be rigid transforms (world<-camera, OpenCV axes, last row 0 0 0 1); matrices {wrong} are not"
        )
    return poses


def _check_K(name: str, K: Any, *, num: int) -> Tensor:
    K = torch.as_tensor(np.asarray(K, dtype=np.float64))
    if K.shape not in ((3, 3), (num, 3, 3)):
        raise ValueError(f"{name} must have shape (3, 3) or ({num}, 3, 3), got {tuple(K.shape)}")
    below = K[..., [1, 2, 2, 2], [0, 0, 1, 2]]
    if not bool(K.isfinite().all()) or not bool((below == torch.tensor([0, 0, 0, 1])).all()):
        raise ValueError(f"{name} must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], all finite, got {K.tolist()}")
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]])
    if not bool((focal > 4).all()):
        raise ValueError(
            f"{name} must be in pixels, got a focal length of {focal.min():g}; multiply a normalised K's first row by "
            "the width and its second by the height"
        )
    return K.expand(num, 3, 3)


def _normalize_times(
    times_s: Sequence[float] | None, target_times_s: Sequence[float] | None, num_context: int, num_target: int
) -> tuple[Tensor, Tensor]:
    """Normalize times as in training; zeros if no times are given."""
    if times_s is None and target_times_s is None:
        return torch.zeros(num_context), torch.zeros(num_target)
    for name, times, num in (("times_s", times_s, num_context), ("target_times_s", target_times_s, num_target)):
        if times is None or np.shape(times) != (num,):
            raise ValueError(
                f"{name} must be {num} times, one per view, if times are given, got "
                f"{'none' if times is None else np.shape(times)}"
            )
    times = torch.as_tensor([*np.asarray(times_s), *np.asarray(target_times_s)], dtype=torch.float64)
    if not bool(times.isfinite().all()):
        raise ValueError(f"times_s and target_times_s must be finite, got {times.tolist()}")
    normalized = normalize_times(times, times[:num_context])
    return normalized[:num_context], normalized[num_context:]
