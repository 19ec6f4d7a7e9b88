"""What a window saves: screenshots, recordings of its camera, and a path through keyframes."""

import io
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING

import viser
from PIL import Image

from wnv.evaluation.images import enlarge
from wnv.evaluation.path_file import format_path, parse_path
from wnv.viewer.keyframes import path_from_file, path_to_file, smooth_path
from wnv.viewer.recording import Recording, VideoCancelled, write_video
from wnv.viewer.session import SceneSession, ViewRequest

if TYPE_CHECKING:
    from wnv.viewer.window import Window, WindowSettings

PREVIEW_FPS = 12
SCREENSHOT_SIDE = 512  # least pixels of the shorter side


class Films:
    """Saves what a window shows.

    Args:
        window: The window.
        client: Its browser, which downloads the files.
        session: Renders the views.
        settings: Settings of all windows.
    """

    def __init__(
        self, window: "Window", client: viser.ClientHandle, session: SceneSession, settings: "WindowSettings"
    ) -> None:
        self._window = window
        self._client = client
        self._session = session
        self._settings = settings
        self._recording: Recording | None = None
        self._keyframes: list[ViewRequest] = []
        self._cancelled = Event()
        self._is_previewing = False
        self.keyframe_s = 2.0
        self.is_sharp = True

    def close(self) -> None:
        """End a preview; videos are finished."""
        self._is_previewing = False

    def screenshot(self) -> None:
        """Download the view at the resolution of a camera at rest."""
        request = self._window.request
        view = self._session.render(request, is_still=True)
        assert view is not None, "only stale requests have no view"
        file = io.BytesIO()
        Image.fromarray(enlarge(view.image_u8, min_side=SCREENSHOT_SIDE)).save(file, format="PNG")
        name = f"{self._name(request)}-{time.strftime('%H%M%S')}.png"
        self._client.send_file_download(name, file.getvalue(), save_immediately=True)

    # ------------------------------------------------------------------ recordings

    def note(self, request: ViewRequest) -> None:
        """Add a view to the recording, if there is one."""
        recording = self._recording
        if recording is not None:
            recording.add(request, monotonic())

    def record(self) -> None:
        """Start a recording of the camera, or end it and save its video."""
        if self._recording is None:
            self._recording = Recording(max_s=self._settings.max_video_s)
            self.note(self._window.request)
            text = f"Recording your camera, for at most {self._settings.max_video_s} s …"
            self._window.panel.show_recording(text, is_recording=True)
            return
        self.note(self._window.request)
        recording, self._recording = self._recording, None
        self._save(list(recording.frames(fps=self._settings.video_fps)))

    def cancel(self) -> None:
        """Stop rendering the video."""
        self._cancelled.set()

    def _save(self, frames: Sequence[ViewRequest]) -> None:
        panel = self._window.panel
        self._cancelled.clear()

        def show_progress(done: int) -> None:
            if self._cancelled.is_set():
                raise VideoCancelled
            if done % 8 == 0:
                panel.show_recording(f"Rendering: {done} of {len(frames)} frames", is_rendering=True)

        text = "Cancelled"
        show_progress(0)
        try:
            path = write_video(
                frames,
                self._session,
                out=self._settings.out,
                name=self._name(frames[0]),
                fps=self._settings.video_fps,
                is_still=self.is_sharp,
                on_frame=show_progress,
            )
            text = f"Saved `{path}`"
            self._client.send_file_download(path.name, path.read_bytes())
        except VideoCancelled:
            pass
        except BaseException:
            text = ""
            raise
        finally:
            panel.show_recording(text)

    def _name(self, request: ViewRequest) -> str:
        return re.sub(r"[^\w.-]+", "-", self._session.scene(request.scene).name)

    # ------------------------------------------------------------------ keyframes

    def add_keyframe(self) -> None:
        """Add the current view to the path."""
        self._set_keyframes([*self._keyframes, self._window.request])

    def remove_keyframe(self) -> None:
        """Remove the last keyframe."""
        self._set_keyframes(self._keyframes[:-1])

    def clear(self) -> None:
        """Remove all keyframes."""
        self._set_keyframes([])

    def set_keyframe_s(self, seconds: float) -> None:
        """Set the seconds from one keyframe to the next."""
        self.keyframe_s = seconds

    def set_sharp(self, is_sharp: bool) -> None:
        """Choose whether videos are as sharp as a view at rest, or as fast as a moving one."""
        self.is_sharp = is_sharp

    def preview(self) -> None:
        """Move the window's camera along the path, or stop that."""
        if self._is_previewing:
            self._is_previewing = False
            return
        frames = self._frames(fps=PREVIEW_FPS)
        self._is_previewing = True
        self._window.panel.show_preview(is_playing=True)
        try:
            for frame in frames:
                if not self._is_previewing:
                    break
                self._window.show(frame)
                time.sleep(1 / PREVIEW_FPS)
        finally:
            self._is_previewing = False
            self._window.panel.show_preview(is_playing=False)

    def render_path(self) -> None:
        """Render the path and save its video."""
        self._save(self._frames(fps=self._settings.video_fps))

    def export(self) -> None:
        """Download the path as a file for `wnv-render trajectory=FILE.json` and nerfstudio."""
        fps = self._settings.video_fps
        frames = self._frames(fps=fps)
        scene = self._session.scene(frames[0].scene)
        text = format_path(path_to_file(self._keyframes, frames, scene, fps=fps))
        self._client.send_file_download(f"{self._name(frames[0])}-path.json", text.encode(), save_immediately=True)

    def load(self, file: viser.UploadedFile) -> None:
        """Replace the path by that of a file."""
        request = self._window.request
        scene = self._session.scene(request.scene)
        keyframes, self.keyframe_s = path_from_file(parse_path(file.content, where=file.name), scene, request)
        self._set_keyframes(keyframes)

    def _frames(self, *, fps: float | int) -> list[ViewRequest]:
        """The views of the path, from the window's current context."""
        request = self._window.request
        if len(self._keyframes) < 2:
            raise ValueError(f"a path needs at least 2 keyframes, got {len(self._keyframes)}; move and add another")
        if self._keyframes[0].scene != request.scene:
            raise ValueError("the keyframes belong to another scene; go back to it, or clear them")
        num_frames = max(2, round((len(self._keyframes) - 1) * self.keyframe_s * fps))
        aspect = request.camera.aspect
        return [
            replace(frame, frames=request.frames, camera=replace(frame.camera, aspect=aspect))
            for frame in smooth_path(self._keyframes, num_frames=num_frames)
        ]

    def _set_keyframes(self, keyframes: list[ViewRequest]) -> None:
        if keyframes and keyframes[-1].scene != keyframes[0].scene:
            raise ValueError("the keyframes belong to another scene; clear them first")
        self._keyframes = keyframes
        self._window.panel.show_keyframes(len(keyframes), self.keyframe_s)
        self._window.frustums.show_path([keyframe.camera for keyframe in keyframes])
