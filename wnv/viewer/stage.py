"""The cameras of a scene in 3D, for one window."""

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any

import numpy as np
import torch
import viser
from jaxtyping import Float, UInt8
from torch import Tensor

from wnv.evaluation.images import to_u8
from wnv.geometry.poses import pose_spread
from wnv.geometry.quaternions import quaternion_from_matrix
from wnv.types import Views
from wnv.viewer.camera import WindowCamera, vertical_fov
from wnv.viewer.scenes import ViewerScene, spread

GIVEN, OTHER, YOURS = (255, 145, 30), (150, 160, 175), (70, 150, 255)
MOST_OTHERS = 24  # cameras of frames that are not given
INSIDE, OUTSIDE = 0.13, 0.4  # sizes of a camera in spreads of the cameras, from within the scene and from outside
OTHERS_SHARE = 0.5  # size of the camera of a frame that is not given
NEAR = 2.5  # sizes within which a camera would stand in the way of the view


def _one_at_a_time(method: Callable[..., None]) -> Callable[..., None]:
    @wraps(method)
    def run(self: "Stage", *arguments: Any) -> None:
        with self._lock:
            method(self, *arguments)

    return run


class Stage:
    """Draws the cameras of a scene: those of the given frames with their images, some of the others without.

    Args:
        scene: The window's 3D view.
        on_click: Told the frame of a camera that somebody clicked.
    """

    def __init__(self, scene: viser.SceneApi, on_click: Callable[[int], None]) -> None:
        self._scene = scene
        self._on_click = on_click
        self._cameras: dict[int, viser.CameraFrustumHandle] = {}
        self._centers: Float[Tensor, "camera 3"] = torch.zeros(0, 3, dtype=torch.float64)
        self._yours: viser.CameraFrustumHandle | None = None
        self._spread = 1.0
        self._is_outside = False
        self._is_visible = True
        self._lock = RLock()  # the window's actions and its drawing come from different threads

    @_one_at_a_time
    def show(self, scene: ViewerScene, frames: tuple[int, ...], context: Views) -> None:
        """Show the cameras of a scene.

        Args:
            scene: The scene.
            frames: The given frames.
            context: Their views.
        """
        for camera in self._cameras.values():
            camera.remove()
        shown = sorted({*frames, *spread(scene.num_frames, MOST_OTHERS)})
        poses = scene.camtoworld[shown]
        self._spread = float(pose_spread(poses)) or 1.0
        self._centers = poses[:, :3, 3]
        # A frame that is not read has the field of view of the first one that is.
        row_of = {frame: row for row, frame in enumerate(frames)}
        fov_y = vertical_fov(context.cameras)
        focal = context.cameras.K
        aspect = context.cameras.width / context.cameras.height * focal[:, 1, 1] / focal[:, 0, 0]
        images = to_u8(context.images)
        self._cameras = {}
        for frame, pose in zip(shown, poses, strict=True):
            row = row_of.get(frame, 0)
            is_given = frame in row_of
            camera = self._scene.add_camera_frustum(
                f"/cameras/{frame}",
                fov=float(fov_y[row]),
                aspect=float(aspect[row]),
                scale=self._size * (1.0 if is_given else OTHERS_SHARE),
                thickness=1.5,
                thickness_units="screen",
                color=GIVEN if is_given else OTHER,
                image=images[row] if is_given else None,
                wxyz=quaternion_from_matrix(pose[:3, :3]).numpy(),
                position=pose[:3, 3].numpy(),
                cast_shadow=False,
                receive_shadow=False,
                visible=self._is_visible,
            )
            camera.on_click(lambda _, frame=frame: self._on_click(frame))
            self._cameras[frame] = camera

    @property
    def _size(self) -> float:
        return self._spread * (OUTSIDE if self._is_outside else INSIDE)

    @_one_at_a_time
    def go_outside(self, is_outside: bool) -> None:
        """Show the cameras large, to be seen from outside, with the window's own among them; or small."""
        self._is_outside = is_outside
        for camera in self._cameras.values():
            camera.scale = self._size * (1.0 if camera.image is not None else OTHERS_SHARE)
            camera.visible = self._is_visible
        if not is_outside and self._yours is not None:
            self._yours.remove()
            self._yours = None

    @_one_at_a_time
    def show_yours(self, camera: WindowCamera, image_u8: UInt8[np.ndarray, "height width 3"]) -> None:
        """Show, to one who is outside, the camera that the drawn view is seen from, with what it sees."""
        if not self._is_outside:
            return
        pose = camera.camtoworld
        self._yours = self._scene.add_camera_frustum(
            "/yours",
            fov=camera.fov_y,
            aspect=camera.aspect,
            scale=1.3 * self._size,
            thickness=2.5,
            thickness_units="screen",
            color=YOURS,
            image=image_u8,
            wxyz=quaternion_from_matrix(pose[:3, :3]).numpy(),
            position=pose[:3, 3].numpy(),
            cast_shadow=False,
            receive_shadow=False,
        )

    @_one_at_a_time
    def set_visible(self, is_visible: bool) -> None:
        """Show or hide the scene's cameras."""
        self._is_visible = is_visible
        for camera in self._cameras.values():
            camera.visible = is_visible

    @_one_at_a_time
    def clear_view(self, position: Float[Tensor, "3"]) -> None:
        """Hide the cameras that stand in the way of one who looks from there."""
        if not self._is_visible or self._is_outside:
            return
        is_far = torch.linalg.vector_norm(self._centers - position, dim=-1) > NEAR * self._size
        for camera, visible in zip(self._cameras.values(), is_far.tolist(), strict=True):
            if camera.visible != visible:
                camera.visible = visible
