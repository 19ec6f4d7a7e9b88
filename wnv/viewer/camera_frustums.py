"""The cameras of a scene in the 3D view of a window."""

from collections.abc import Callable, Sequence
from functools import wraps
from threading import RLock
from typing import Any

import numpy as np
import torch
import viser
from jaxtyping import Float, UInt8
from torch import Tensor

from wnv.evaluation.context import spread
from wnv.evaluation.images import to_u8
from wnv.geometry.poses import pose_spread
from wnv.geometry.quaternions import quaternion_from_matrix
from wnv.types import Views
from wnv.viewer.camera import WindowCamera, vertical_fov
from wnv.viewer.scenes import ViewerScene

CONTEXT_COLOR, OTHER_COLOR, VIEW_COLOR, PATH_COLOR = (255, 145, 30), (150, 160, 175), (70, 150, 255), (80, 210, 110)
MAX_OTHERS = 24  # cameras of frames outside the context
INSIDE, OUTSIDE = 0.06, 0.4  # sizes of a camera in units of the cameras' spread, seen from within and from outside
OTHER_SCALE = 0.5  # of cameras outside the context
NEAR = 4.0  # distance, in camera sizes, below which a camera would block the view


def _locked(method: Callable[..., None]) -> Callable[..., None]:
    @wraps(method)
    def run(self: "CameraFrustums", *arguments: Any) -> None:
        with self._lock:
            method(self, *arguments)

    return run


class CameraFrustums:
    """Shows the cameras of a scene: those of the context with their images, some of the others without.

    Args:
        scene: The 3D view of the window.
        on_click: Called with the frame of a camera that the user clicks.
    """

    def __init__(self, scene: viser.SceneApi, on_click: Callable[[int], None]) -> None:
        self._scene = scene
        self._on_click = on_click
        self._cameras: dict[int, viser.CameraFrustumHandle] = {}
        self._centers: Float[Tensor, "camera 3"] = torch.zeros(0, 3, dtype=torch.float64)
        self._view: viser.CameraFrustumHandle | None = None
        self._path: list[viser.SceneNodeHandle] = []
        self._spread = 1.0
        self._is_outside = False
        self._is_visible = True
        self._lock = RLock()  # controls and rendering run in different threads

    @_locked
    def show(self, scene: ViewerScene, frames: tuple[int, ...], context: Views) -> None:
        """Show the cameras of a scene.

        Args:
            scene: The scene.
            frames: Frames of the context.
            context: Their views.
        """
        for camera in self._cameras.values():
            camera.remove()
        shown = sorted({*frames, *spread(scene.num_frames, MAX_OTHERS)})
        poses = scene.camtoworld[shown]
        self._spread = float(pose_spread(poses)) or 1.0
        self._centers = poses[:, :3, 3]
        # Frames outside the context are not read; they get the field of view of the first context frame.
        row_of = {frame: row for row, frame in enumerate(frames)}
        fov_y = vertical_fov(context.cameras)
        focal = context.cameras.K
        aspect = context.cameras.width / context.cameras.height * focal[:, 1, 1] / focal[:, 0, 0]
        images = to_u8(context.images)
        self._cameras = {}
        for frame, pose in zip(shown, poses, strict=True):
            row = row_of.get(frame, 0)
            is_context = frame in row_of
            camera = self._add(
                f"/cameras/{frame}",
                pose,
                fov=float(fov_y[row]),
                aspect=float(aspect[row]),
                scale=self._size * (1.0 if is_context else OTHER_SCALE),
                thickness=1.5,
                color=CONTEXT_COLOR if is_context else OTHER_COLOR,
                image=images[row] if is_context else None,
                visible=self._is_visible,
            )
            camera.on_click(lambda _, frame=frame: self._on_click(frame))
            self._cameras[frame] = camera

    @_locked
    def set_outside(self, is_outside: bool) -> None:
        """Enlarge the cameras for a view from outside, or shrink them and remove the window's camera."""
        self._is_outside = is_outside
        for camera in self._cameras.values():
            camera.scale = self._size * (1.0 if camera.image is not None else OTHER_SCALE)
            camera.visible = self._is_visible
        for node in self._path:
            node.visible = is_outside
        if not is_outside and self._view is not None:
            self._view.remove()
            self._view = None

    @_locked
    def show_view(self, camera: WindowCamera, image_u8: UInt8[np.ndarray, "height width 3"]) -> None:
        """Show the camera of the rendered view with its image, if seen from outside."""
        if self._is_outside:
            size = 1.3 * self._size
            options = {"fov": camera.fov_y, "aspect": camera.aspect, "scale": size, "thickness": 2.5}
            self._view = self._add("/view", camera.camtoworld, color=VIEW_COLOR, image=image_u8, **options)

    @_locked
    def show_path(self, keyframes: Sequence[WindowCamera]) -> None:
        """Show the keyframes of a path and a line through them, if seen from outside."""
        for node in self._path:
            node.remove()
        size = self._spread * OUTSIDE * OTHER_SCALE
        options: dict[str, Any] = {"scale": size, "thickness": 2.0, "color": PATH_COLOR, "visible": self._is_outside}
        self._path = [
            self._add(f"/path/{i}", camera.camtoworld, fov=camera.fov_y, aspect=camera.aspect, **options)
            for i, camera in enumerate(keyframes)
        ]
        if len(keyframes) > 1:
            points = torch.stack([camera.camtoworld[:3, 3] for camera in keyframes]).numpy()
            line = {"thickness_units": "screen", "curve_type": "catmullrom", "visible": self._is_outside}
            self._path.append(
                self._scene.add_spline_catmull_rom("/path/line", points=points, thickness=2.0, color=PATH_COLOR, **line)
            )

    @_locked
    def set_visible(self, is_visible: bool) -> None:
        """Show or hide the scene's cameras."""
        self._is_visible = is_visible
        for camera in self._cameras.values():
            camera.visible = is_visible

    @_locked
    def clear_view(self, position: Float[Tensor, "3"]) -> None:
        """Hide the cameras that block the view from a position."""
        if not self._is_visible or self._is_outside:
            return
        is_far = torch.linalg.vector_norm(self._centers - position, dim=-1) > NEAR * self._size
        for camera, visible in zip(self._cameras.values(), is_far.tolist(), strict=True):
            if camera.visible != visible:
                camera.visible = visible

    @property
    def _size(self) -> float:
        return self._spread * (OUTSIDE if self._is_outside else INSIDE)

    def _add(self, name: str, pose: Float[Tensor, "4 4"], **options: Any) -> viser.CameraFrustumHandle:
        return self._scene.add_camera_frustum(
            name,
            thickness_units="screen",
            wxyz=quaternion_from_matrix(pose[:3, :3]).numpy(),
            position=pose[:3, 3].numpy(),
            cast_shadow=False,
            receive_shadow=False,
            **options,
        )
