"""One browser window: its view, and the actions of its controls."""

import logging
import math
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from re import findall
from threading import Lock
from time import monotonic
from typing import Any

import torch
import viser
from jaxtyping import Float
from torch import Tensor

from wnv.evaluation.context import spread
from wnv.evaluation.images import enlarge, to_u8
from wnv.geometry.focus import focus_point
from wnv.geometry.overlap import choose_neighbors, looks_elsewhere
from wnv.geometry.poses import pose_distance
from wnv.viewer.camera import WindowCamera, window_camera
from wnv.viewer.camera_frustums import CameraFrustums
from wnv.viewer.films import Films
from wnv.viewer.loop import RenderLoop
from wnv.viewer.panel import Panel
from wnv.viewer.scenes import ViewerScene
from wnv.viewer.session import RenderedView, SceneSession, ViewRequest

log = logging.getLogger(__name__)

SENT_SIDE = 256  # least pixels of the shorter side: JPEG degrades smaller images
JPEG_QUALITY = 90
STATUS_EVERY_S = 0.25
NARROW_PX = 600
OVERVIEW_FOV_DEG = 50.0
OVERVIEW_MARGIN = 1.4  # factor on the distance at which all cameras are visible


@dataclass(frozen=True)
class WindowSettings:
    """Settings of all windows.

    Attributes:
        out: Folder for videos.
        video_fps: Frames per second of a video.
        max_video_s: Longest recording in seconds.
        still_after_s: Seconds without movement after which to render a still image.

    Raises:
        NotADirectoryError: If `out` is a file.
    """

    out: Path
    video_fps: float | int = 24
    max_video_s: float | int = 60
    still_after_s: float = 0.25

    def __post_init__(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise NotADirectoryError(f"out={self.out} is a file; name a folder for recorded videos")


@dataclass(frozen=True)
class _Photo:
    """The photo beside the view: its scene and frame, and whether it is in the context."""

    scene: int
    frame: int
    is_context: bool


class Window:
    """Connects a viser client with the session: its camera, its controls, and the images it receives.

    Args:
        client: The browser window.
        session: Renders the views.
        settings: Settings of all windows.
    """

    def __init__(self, client: viser.ClientHandle, session: SceneSession, settings: WindowSettings) -> None:
        self._client = client
        self._session = session
        self._settings = settings
        self._lock = Lock()  # of the request, held for assignments only
        self._acting = Lock()  # runs actions one after the other, except long ones
        self._request = replace(session.home(session.scenes.first), camera=_camera_of(client.camera))
        self._is_outside = False
        self._is_comparing = False
        self._photo: _Photo | None = None
        self.films = Films(self, client, session, settings)
        self._status_at = 0.0
        self._num_images = 0  # since the last status
        with self._acting:  # actions wait until the window is complete
            self.frustums = CameraFrustums(client.scene, self.guarded(self.toggle_frame))
            self.panel = Panel(
                client.gui,
                self,
                num_scenes=len(session.scenes),
                is_narrow=client.camera.image_width < NARROW_PX,
            )
            self._loop = RenderLoop(
                render=self._render,
                on_error=self._show_error,
                still_after_s=settings.still_after_s,
                name=f"wnv-window-{client.client_id}",
            )
            client.camera.on_update(self._on_camera)
            self.show_scene(self._request.scene)

    def close(self) -> None:
        """Stop rendering for this window."""
        self.films.close()
        self._loop.close()

    @property
    def request(self) -> ViewRequest:
        """The view that the window shows."""
        return self._request

    # ------------------------------------------------------------------ actions of the controls

    def guarded(self, action: Callable[..., None], *, is_long: bool = False) -> Callable[..., None]:
        """Wrap an action so that its errors appear in this window, and only long actions overlap with others."""

        @wraps(action)
        def run(*arguments: Any) -> None:
            try:
                with self._acting:
                    if not is_long:
                        action(*arguments)
                if is_long:
                    action(*arguments)
            except CancelledError:  # the viewer is closing
                return
            except Exception as error:
                if not isinstance(error, (ValueError, FileNotFoundError)):
                    log.exception("%s", error)
                self._show_error(error)

        return run

    def step_scene(self, step: int) -> None:
        """Show the scene `step` further in the list, cyclically."""
        self.show_scene((self._request.scene + step) % len(self._session.scenes))

    def show_scene(self, index: int) -> None:
        """Show a scene from its first view."""
        home = self._session.home(index)
        scene = self._session.scene(index)
        self._change(scene=index, frames=home.frames, time=home.time)
        self.panel.show_scene(scene, index, time=home.time)
        self._show_context(scene, home.frames)
        self.reset_view()

    def set_context(self, frames: tuple[int, ...]) -> None:
        """Render from these frames of the scene."""
        scene = self._session.scene(self._request.scene)
        self._change(frames=scene.check_frames(frames))
        self._show_context(scene, frames)

    def set_context_text(self, text: str) -> None:
        """Render from the frames whose numbers are in a text."""
        self.set_context(tuple(dict.fromkeys(map(int, findall(r"\d+", text)))))

    def spread_context(self, count: int) -> None:
        """Render from `count` neighbors of the view, or of a dynamic scene frames evenly spread over its time."""
        scene = self._session.scene(self._request.scene)
        if scene.is_dynamic:
            self.set_context(spread(scene.num_frames, count))
        else:
            start = _nearest_frame(scene, self._request)
            self.set_context(choose_neighbors(scene.camtoworld, start=start, count=count))

    def toggle_frame(self, frame: int) -> None:
        """Add a frame to the context or remove it."""
        frames = set(self._request.frames)
        if frames == {frame}:
            raise ValueError("the context needs at least one frame; click another camera first")
        self.set_context(tuple(sorted(frames ^ {frame})))

    def set_fov(self, degrees: float) -> None:
        """Set the vertical field of view."""
        self._client.camera.fov = math.radians(degrees)

    def reset_view(self) -> None:
        """Go to the first view of the scene."""
        self.go_to(self._session.home(self._request.scene).camera)

    def overview(self) -> None:
        """Show all cameras from outside; the rendered view keeps its camera."""
        self._is_outside = True
        self.frustums.set_outside(True)
        self._client.scene.set_background_image(None)
        poses = self._session.scene(self._request.scene).camtoworld
        self._place(_overview_camera(poses, aspect=self._client.camera.aspect))
        self._change()

    def show_cameras(self, is_visible: bool) -> None:
        """Show or hide the cameras of the scene."""
        self.frustums.set_visible(is_visible)

    def go_to(self, camera: WindowCamera) -> None:
        """Move the window's camera, which then turns around the point that the scene's cameras look at."""
        if self._is_outside:
            self._is_outside = False
            self.frustums.set_outside(False)
        self._place(camera)
        self._change(camera=replace(camera, aspect=self._client.camera.aspect))

    def set_time(self, time: float) -> None:
        """Show another time."""
        self._change(time=float(time))

    def compare(self, is_comparing: bool) -> None:
        """Show or hide the nearest photo beside the view."""
        self._is_comparing = is_comparing
        self._photo = None
        if not is_comparing:
            self.panel.show_photo(None)
        self._change()

    def go_to_photo(self) -> None:
        """Go to the camera of the photo that is shown."""
        photo, number = self._photo, self._request.scene
        if photo is None or photo.scene != number:  # of the previous scene: the next image updates it
            return
        scene = self._session.scene(number)
        self._change(time=float(scene.times[photo.frame]))
        self.go_to(replace(self._session.home(number).camera, camtoworld=scene.camtoworld[photo.frame]))

    def show(self, request: ViewRequest) -> None:
        """Go to the camera and time of a view."""
        self._change(time=request.time)
        self.go_to(request.camera)

    # ------------------------------------------------------------------ rendering

    def _place(self, camera: WindowCamera) -> None:
        pose = camera.camtoworld.numpy()
        ahead = self._focus_distance(camera.camtoworld)
        handle = self._client.camera
        with self._client.atomic():
            handle.position = pose[:3, 3]
            handle.look_at = pose[:3, 3] + ahead * pose[:3, 2]
            handle.up_direction = -pose[:3, 1]
            handle.fov = camera.fov_y
        self.panel.show_fov(math.degrees(camera.fov_y))

    def _show_error(self, error: Exception) -> None:
        self.panel.show_frames(self._request.frames)
        self._client.add_notification(title="Error", body=str(error), color="red")

    def _show_context(self, scene: ViewerScene, frames: tuple[int, ...]) -> None:
        self.panel.show_frames(frames)
        self.frustums.show(scene, frames, scene.context(frames))
        for doubt in scene.doubts(frames):
            self._client.add_notification(title="Context", body=doubt, color="yellow")

    async def _on_camera(self, camera: viser.CameraHandle) -> None:
        # Runs in viser's event loop, which serves all windows: must not block.
        if not self._is_outside:
            self._change(camera=_camera_of(camera))

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._request = replace(self._request, **changes)
            request = self._request
        self.films.note(request)
        self._loop.submit(request)

    def _render(self, request: ViewRequest, is_still: bool, is_stale: Callable[[], bool]) -> None:
        view = self._session.render(request, is_still=is_still, is_stale=is_stale)
        if view is None:
            return
        if self._is_outside:
            self.frustums.show_view(request.camera, view.image_u8)
        else:
            sent = enlarge(view.image_u8, min_side=SENT_SIDE)
            self._client.scene.set_background_image(sent, format="jpeg", jpeg_quality=JPEG_QUALITY)
            self._client.flush()
            self.frustums.clear_view(request.camera.camtoworld[:3, 3])
        self._show_status(request, view, is_still=is_still)
        if self._is_comparing:
            self._show_nearest(request)

    def _show_status(self, request: ViewRequest, view: RenderedView, *, is_still: bool) -> None:
        self._num_images += 1
        elapsed = monotonic() - self._status_at
        if not is_still and elapsed < STATUS_EVERY_S:
            return
        state = "At rest" if is_still else f"{self._num_images / elapsed:.0f} images/s" if elapsed < 1 else "Moving"
        self._status_at, self._num_images = monotonic(), 0
        height, width = view.image_u8.shape[:2]
        encoded = f", encoded in {1e3 * view.encode_s:.0f} ms" if view.encode_s else ""
        elsewhere = "\n\nNo context photo looked here." if self._looks_elsewhere(request) else ""
        self.panel.show_status(
            f"**{state}** · {width} × {height} px in {1e3 * view.render_s:.0f} ms{encoded}{elsewhere}"
        )

    def _show_nearest(self, request: ViewRequest) -> None:
        scene = self._session.scene(request.scene)
        nearest = _nearest_frame(scene, request)
        photo = _Photo(scene=request.scene, frame=nearest, is_context=nearest in request.frames)
        if photo != self._photo:
            self._photo = photo
            label = f"frame {nearest}, {'in' if photo.is_context else 'not in'} the context"
            self.panel.show_photo(enlarge(to_u8(scene.image(nearest)), min_side=SENT_SIDE), label)

    def _looks_elsewhere(self, request: ViewRequest) -> bool:
        scene = self._session.scene(request.scene)
        context = scene.shown_cameras(request.frames)
        focus = focus_point(context, scene_poses=scene.camtoworld)
        return bool(looks_elsewhere(request.camera.pinhole(), context, focus=focus))

    def _focus_distance(self, camtoworld: Float[Tensor, "4 4"]) -> float:
        scene = self._session.scene(self._request.scene)
        focus = focus_point(scene.shown_cameras(self._request.frames), scene_poses=scene.camtoworld)
        ahead = (focus - camtoworld[:3, 3]) @ camtoworld[:3, 2]
        return max(float(ahead), 0.2)


def _camera_of(camera: viser.CameraHandle) -> WindowCamera:
    return window_camera(
        wxyz=tuple(camera.wxyz), position=tuple(camera.position), fov_y=camera.fov, aspect=camera.aspect
    )


def _nearest_frame(scene: ViewerScene, request: ViewRequest) -> int:
    """The frame whose camera, and in dynamic scenes whose time, is nearest."""
    distance = pose_distance(request.camera.camtoworld[None], scene.camtoworld)[0]
    if scene.is_dynamic:
        window = float(scene.times.max() - scene.times.min()) or 1.0
        distance = distance + (scene.times - request.time).abs() / window
    return int(distance.argmin())


def _overview_camera(camtoworld: Float[Tensor, "frame 4 4"], *, aspect: float) -> WindowCamera:
    """A camera behind and above all cameras, looking in their mean direction (+z of the world that is shown)."""
    centers = camtoworld[:, :3, 3]
    middle = centers.mean(dim=0)
    reach = float(torch.linalg.vector_norm(centers - middle, dim=-1).max()) or 1.0
    tilt = math.radians(25)
    pose = torch.eye(4, dtype=torch.float64)
    pose[1:3, 1:3] = torch.tensor([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    fov_y = math.radians(OVERVIEW_FOV_DEG)
    distance = OVERVIEW_MARGIN * reach / (math.tan(fov_y / 2) * min(1.0, aspect))
    pose[:3, 3] = middle - distance * pose[:3, 2]
    return WindowCamera(camtoworld=pose, fov_y=fov_y, aspect=aspect)
