"""Geometry creates tensors on the device of its inputs: mixing devices with `meta` raises."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wnv.geometry.cameras import K_from_fov, crop_K, invert_K, normalize_K, project, scale_K, zoom_K
from wnv.geometry.poses import (
    fit_world_frame,
    interpolate_poses,
    invert_se3,
    is_rigid,
    nearest_pose,
    pose_distance,
    pose_spread,
)
from wnv.geometry.rays import camera_rays, plucker

K = torch.zeros(2, 4, 3, 3, device="meta")
POSE = torch.zeros(2, 4, 4, 4, device="meta")
POINTS = torch.zeros(2, 4, 5, 3, device="meta")


@pytest.mark.slow  # the first operation on meta imports for seconds
@pytest.mark.parametrize(
    "call",
    [
        lambda: scale_K(K, scale_x=2, scale_y=0.5),
        lambda: crop_K(K, left=1, top=2),
        lambda: zoom_K(K, zoom=2, width=4, height=3),
        lambda: invert_K(K),
        lambda: project(POINTS, K, POSE)[0],
        lambda: invert_se3(POSE),
        lambda: fit_world_frame(POSE, method="mean").apply(POSE),
        lambda: fit_world_frame(POSE, method="first").undo(POSE),
        lambda: interpolate_poses(POSE, POSE, 0.5),
        lambda: is_rigid(POSE),
        lambda: nearest_pose(POSE, POSE),
        lambda: pose_distance(POSE, POSE),
        lambda: pose_spread(POSE),
        lambda: camera_rays(K, height=3, width=4),
        lambda: plucker(K, POSE, height=3, width=4),
    ],
)
def test_results_stay_on_the_device_of_the_inputs(call):
    assert call().device.type == "meta"


def test_a_number_gives_K_on_the_cpu():
    assert K_from_fov(fov_y_deg=50, width=4, height=3).device.type == "cpu"


class _Operators(TorchDispatchMode):
    """Records the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(str(function.overloadpacket))
        return function(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        lambda K: normalize_K(K, width=4, height=3),
        lambda K: scale_K(K, scale_x=2, scale_y=0.5),
        lambda K: zoom_K(K, zoom=2, width=4, height=3),
        lambda K: camera_rays(K, height=3, width=4),
    ],
)
def test_numbers_are_not_copied_from_the_host(call):
    """A copy of a number to a GPU waits for all queued work."""
    K = torch.eye(3)
    with _Operators() as operators:
        call(K)
    assert "aten.lift_fresh" not in operators.names
