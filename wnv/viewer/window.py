"""One browser window: what it looks at, and what its controls do."""

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

from wnv.evaluation.images import enlarge, to_u8
from wnv.geometry.poses import pose_distance
from wnv.geometry.trajectories import focus_point
from wnv.viewer.camera import WindowCamera, window_camera
from wnv.viewer.loop import RateMeter, RenderLoop
from wnv.viewer.panel import Actions, Panel
from wnv.viewer.recording import Recording, write_recording
from wnv.viewer.scenes import ViewerScene, spread
from wnv.viewer.session import Drawing, SceneSession, ViewRequest
from wnv.viewer.stage import Stage

log = logging.getLogger(__name__)

SENT_SIDE = 256  # pixels of the shorter side, at least: JPEG is unkind to smaller pictures
JPEG_QUALITY = 90
STATUS_EVERY_S = 0.25
OVERVIEW_FOV_DEG = 50.0
OVERVIEW_MARGIN = 1.4  # how much farther off than the farthest camera would need


@dataclass(frozen=True)
class WindowSettings:
    """What all windows have in common.

    Attributes:
        out: Folder for videos.
        video_fps: Frames per second of a video.
        max_video_s: A recording ends by itself after so many seconds.
        still_after_s: Seconds without a movement after which the view is drawn as still.

    Raises:
        NotADirectoryError: If `out` is a file; a recording would fail when it ends.
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
    """The photograph that is shown beside the view: of which scene and frame, and whether the view is drawn from it."""

    scene: int
    frame: int
    is_given: bool


class Window:
    """Connects a client of viser with the session: its camera, its controls, and the pictures it is sent.

    Args:
        client: The browser window.
        session: Who draws.
        settings: What all windows have in common.
    """

    def __init__(self, client: viser.ClientHandle, session: SceneSession, settings: WindowSettings) -> None:
        self._client = client
        self._session = session
        self._settings = settings
        self._lock = Lock()  # of the request, held for assignments only
        self._acting = Lock()  # one action after the other, but for long ones
        self._request = replace(session.home(session.scenes.first), camera=_camera_of(client.camera))
        self._is_outside = False
        self._is_comparing = False
        self._photo: _Photo | None = None
        self._recording: Recording | None = None
        self._rate = RateMeter()
        self._pictures_per_s = 0.0
        self._status_at = 0.0
        with self._acting:  # who uses a control of a window that is being made waits until it is
            self._stage = Stage(client.scene, self._guarded(self.toggle_frame))
            self._panel = Panel(client.gui, self._actions(), num_scenes=len(session.scenes))
            self._loop = RenderLoop(
                draw=self._draw,
                on_error=self._tell_error,
                still_after_s=settings.still_after_s,
                name=f"wnv-window-{client.client_id}",
            )
            client.camera.on_update(self._on_camera)
            self.show_scene(self._request.scene)

    def close(self) -> None:
        """Stop drawing; the client is gone."""
        self._loop.close()

    # ------------------------------------------------------------------ what the controls do

    def step_scene(self, step: int) -> None:
        """Show the scene so many further on, round and round."""
        self.show_scene((self._request.scene + step) % len(self._session.scenes))

    def show_scene(self, index: int) -> None:
        """Show a scene from where it begins."""
        home = self._session.home(index)
        scene = self._session.scene(index)
        self._change(scene=index, frames=home.frames, time=home.time)
        self._panel.show_scene(scene, index, time=home.time)
        self._show_given(scene, home.frames)
        self.reset_view()

    def give_frames(self, frames: tuple[int, ...]) -> None:
        """Draw from these frames of the scene."""
        scene = self._session.scene(self._request.scene)
        self._change(frames=scene.check_frames(frames))
        self._show_given(scene, frames)

    def give_text(self, text: str) -> None:
        """Draw from the frames whose numbers the text holds."""
        self.give_frames(tuple(dict.fromkeys(map(int, findall(r"\d+", text)))))

    def give_spread(self, count: int) -> None:
        """Draw from so many frames, evenly spread over the scene."""
        self.give_frames(spread(self._session.scene(self._request.scene).num_frames, count))

    def toggle_frame(self, frame: int) -> None:
        """Give a frame that was not given, or take it away."""
        frames = set(self._request.frames)
        if frames == {frame}:
            raise ValueError("one photograph has to stay; click another camera first")
        self.give_frames(tuple(sorted(frames ^ {frame})))

    def set_fov(self, degrees: float) -> None:
        """Set the view's vertical field of view."""
        self._client.camera.fov = math.radians(degrees)

    def reset_view(self) -> None:
        """Go to where the scene begins."""
        self.go_to(self._session.home(self._request.scene).camera)

    def overview(self) -> None:
        """Go out of the scene, to where all its cameras can be seen; what is drawn stays where it was."""
        self._is_outside = True
        self._stage.go_outside(True)
        self._client.scene.set_background_image(None)
        poses = self._session.scene(self._request.scene).camtoworld
        self._place(_overview_camera(poses, aspect=self._client.camera.aspect))
        self._change()

    def go_to(self, camera: WindowCamera) -> None:
        """Put the window's camera into the scene; the point it turns around is where the scene's cameras look."""
        if self._is_outside:
            self._is_outside = False
            self._stage.go_outside(False)
        self._place(camera)
        self._change(camera=replace(camera, aspect=self._client.camera.aspect))

    def _place(self, camera: WindowCamera) -> None:
        pose = camera.camtoworld.numpy()
        ahead = self._focus_distance(camera.camtoworld)
        handle = self._client.camera
        with self._client.atomic():
            handle.position = pose[:3, 3]
            handle.look_at = pose[:3, 3] + ahead * pose[:3, 2]
            handle.up_direction = -pose[:3, 1]
            handle.fov = camera.fov_y
        self._panel.show_fov(math.degrees(camera.fov_y))

    def set_time(self, time: float) -> None:
        """Show another moment."""
        self._change(time=float(time))

    def compare(self, is_comparing: bool) -> None:
        """Show the nearest photograph beside the view, or do not."""
        self._is_comparing = is_comparing
        self._photo = None
        if not is_comparing:
            self._panel.show_photo(None)
        self._change()

    def go_to_photo(self) -> None:
        """Go to the camera of the photograph that is shown."""
        photo, number = self._photo, self._request.scene
        if photo is None or photo.scene != number:  # of the scene before: the next picture brings another
            return
        scene = self._session.scene(number)
        self._change(time=float(scene.times[photo.frame]))
        self.go_to(replace(self._session.home(number).camera, camtoworld=scene.camtoworld[photo.frame]))

    def record(self) -> None:
        """Begin to record; or end, and save the video."""
        if self._recording is None:
            self._recording = Recording(max_s=self._settings.max_video_s)
            self._recording.add(self._request, monotonic())
            self._panel.show_recording(
                f"Recording how you move, {self._settings.max_video_s} s at most …", is_recording=True
            )
            return
        recording, self._recording = self._recording, None
        recording.add(self._request, monotonic())
        self._panel.show_recording("Drawing …", is_recording=False)

        def tell(done: int, total: int) -> None:
            if done % 8 == 0:
                self._panel.show_recording(f"Drawing: {done} of {total} frames", is_recording=False)

        path = write_recording(
            recording, self._session, out=self._settings.out, fps=self._settings.video_fps, on_frame=tell
        )
        self._panel.show_recording(f"Saved `{path}`", is_recording=False)

    # ------------------------------------------------------------------ what happens then

    def _actions(self) -> Actions:
        return Actions(
            step=self._guarded(self.step_scene),
            show_scene=self._guarded(self.show_scene),
            spread=self._guarded(self.give_spread),
            give=self._guarded(self.give_text),
            set_fov=self._guarded(self.set_fov),
            reset=self._guarded(self.reset_view),
            overview=self._guarded(self.overview),
            set_time=self._guarded(self.set_time),
            compare=self._guarded(self.compare),
            go_to_photo=self._guarded(self.go_to_photo),
            record=self._guarded(self.record, is_long=True),
            set_cameras=self._guarded(self._stage.set_visible),
        )

    def _guarded(self, action: Callable[..., None], *, is_long: bool = False) -> Callable[..., None]:
        """The action, with its errors told in the window that asked for it."""

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
                self._tell_error(error)

        return run

    def _tell_error(self, error: Exception) -> None:
        self._panel.show_frames(self._request.frames)
        self._client.add_notification(title="That did not work", body=str(error), color="red")

    def _show_given(self, scene: ViewerScene, frames: tuple[int, ...]) -> None:
        self._panel.show_frames(frames)
        self._stage.show(scene, frames, scene.context(frames))

    async def _on_camera(self, camera: viser.CameraHandle) -> None:
        # On viser's own thread, which serves all windows: nothing here waits.
        if not self._is_outside:
            self._change(camera=_camera_of(camera))

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._request = replace(self._request, **changes)
            request = self._request
        recording = self._recording
        if recording is not None:
            recording.add(request, monotonic())
        self._loop.submit(request)

    def _draw(self, request: ViewRequest, is_still: bool, is_stale: Callable[[], bool]) -> None:
        drawing = self._session.draw(request, is_still=is_still, is_stale=is_stale)
        if drawing is None:
            return
        if self._is_outside:
            self._stage.show_yours(request.camera, drawing.image_u8)
        else:
            sent = enlarge(drawing.image_u8, min_side=SENT_SIDE)
            self._client.scene.set_background_image(sent, format="jpeg", jpeg_quality=JPEG_QUALITY)
            self._client.flush()
            self._stage.clear_view(request.camera.camtoworld[:3, 3])
        self._tell_status(drawing, is_still=is_still)
        if self._is_comparing:
            self._show_nearest(request)

    def _tell_status(self, drawing: Drawing, *, is_still: bool) -> None:
        now = monotonic()
        if not is_still:
            self._pictures_per_s = self._rate.count(now) or self._pictures_per_s
            if now - self._status_at < STATUS_EVERY_S:
                return
        self._status_at = now
        height, width = drawing.image_u8.shape[:2]
        encoded = f", encoded in {1e3 * drawing.encode_s:.0f} ms" if drawing.encode_s else ""
        size = f"{width} × {height} px in {1e3 * drawing.draw_s:.0f} ms{encoded}"
        rate = f"{self._pictures_per_s:.0f} pictures/s" if self._pictures_per_s else ""
        self._panel.show_status(f"**At rest** · {size}" if is_still else f"**{rate or 'Moving'}** · {size}")

    def _show_nearest(self, request: ViewRequest) -> None:
        scene = self._session.scene(request.scene)
        nearest = _nearest_frame(scene, request)
        photo = _Photo(scene=request.scene, frame=nearest, is_given=nearest in request.frames)
        if photo != self._photo:
            self._photo = photo
            image_u8 = to_u8(scene.photo(nearest))
            given = "given" if photo.is_given else "not given"
            self._panel.show_photo(enlarge(image_u8, min_side=SENT_SIDE), f"frame {nearest}, {given}")

    def _focus_distance(self, camtoworld: Float[Tensor, "4 4"]) -> float:
        scene = self._session.scene(self._request.scene)
        cameras = scene.context(self._request.frames).cameras
        shown = replace(cameras, K=cameras.K.double(), camtoworld=scene.camtoworld[list(self._request.frames)])
        ahead = (focus_point(shown) - camtoworld[:3, 3]) @ camtoworld[:3, 2]
        return max(float(ahead), 0.2)


def _camera_of(camera: viser.CameraHandle) -> WindowCamera:
    return window_camera(
        wxyz=tuple(camera.wxyz), position=tuple(camera.position), fov_y=camera.fov, aspect=camera.aspect
    )


def _nearest_frame(scene: ViewerScene, request: ViewRequest) -> int:
    """The frame whose camera is nearest; where things move, whose moment counts as well."""
    distance = pose_distance(request.camera.camtoworld[None], scene.camtoworld)[0]
    if scene.is_dynamic:
        window = float(scene.times.max() - scene.times.min()) or 1.0
        distance = distance + (scene.times - request.time).abs() / window
    return int(distance.argmin())


def _overview_camera(camtoworld: Float[Tensor, "frame 4 4"], *, aspect: float) -> WindowCamera:
    """From behind and above all cameras, in the direction that they look on the whole (+z of the world shown)."""
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
