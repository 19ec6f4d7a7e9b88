"""The controls beside the view of one window."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import viser
from jaxtyping import UInt8

from wnv.viewer.scenes import ViewerScene

if TYPE_CHECKING:
    from wnv.viewer.window import Window

PREVIOUS, NEXT = "◀ Previous", "Next ▶"
RESET, OVERVIEW = "Reset view", "All cameras"
RECORD, STOP = "Record", "Stop and save"
ADD, REMOVE, CLEAR = "Add", "Remove", "Clear"
PREVIEW, STOP_PREVIEW = "Preview", "Stop the preview"
SHARP, FAST = "sharp, as at rest", "fast, as while moving"
MAX_SLIDER_FRAMES = 16  # of the slider; more can be typed
FOV_DEG = (10, 110)

_HELP = (
    "Drag to turn, right-drag to move, scroll to zoom. The view is rendered from the **context photos** alone; "
    "*All cameras* shows their cameras in orange."
)
_TOUCH_HELP = "One finger turns, two move, pinching zooms. Tap the line above to fold this panel."
_NO_KEYFRAMES = "Move to a view and add it as a keyframe; then to the next."


class Panel:
    """Builds the controls of a window and shows its state in them.

    Args:
        gui: The controls of the client.
        window: Its window, whose methods the controls call.
        num_scenes: Number of scenes.
        is_narrow: Whether the window is a phone's: folders start closed, because viser's panel there starts open and
            would cover most of the view.
    """

    def __init__(self, gui: viser.GuiApi, window: "Window", *, num_scenes: int, is_narrow: bool = False) -> None:
        self._gui = gui
        self._window = window
        self._num_scenes = num_scenes
        self._title = gui.add_markdown("")
        gui.add_markdown(_TOUCH_HELP if is_narrow else _HELP)
        is_open = not is_narrow
        self._status = gui.add_markdown("…")
        if num_scenes > 1:
            with gui.add_folder("Scene", expand_by_default=is_open):
                steps = gui.add_button_group("Step", (PREVIOUS, NEXT))
                step_scene = window.guarded(window.step_scene)
                steps.on_click(lambda event: step_scene(-1 if event.target.value == PREVIOUS else 1))
                self._number = gui.add_number(f"Scene 0 to {num_scenes - 1}", 0, min=0, max=num_scenes - 1, step=1)
                self._on_user(self._number, lambda value: window.show_scene(int(value)))
        self._context_folder = gui.add_folder("Context photos", expand_by_default=is_open)
        self._count: viser.GuiSliderHandle[int] | None = None
        with self._context_folder:
            hint = "Frames of the context, for example 0, 12, 24. Or click a camera in the view."
            self._frames = gui.add_text("Frames", "", hint=hint)
        self._on_user(self._frames, window.set_context_text)
        with gui.add_folder("Camera", expand_by_default=is_open):
            self._fov = gui.add_slider("View angle °", *FOV_DEG, 1, 60, hint="Vertical field of view in degrees.")
            places = gui.add_button_group("Go to", (RESET, OVERVIEW))
            cameras = gui.add_checkbox("Show cameras", True)
        self._on_user(cameras, window.show_cameras)
        self._on_user(self._fov, window.set_fov)
        reset, overview = window.guarded(window.reset_view), window.guarded(window.overview)
        places.on_click(lambda event: reset() if event.target.value == RESET else overview())
        self._time_folder = gui.add_folder("Time", expand_by_default=is_open, visible=False)
        self._time: viser.GuiSliderHandle[float] | None = None
        with gui.add_folder("Nearest photo", expand_by_default=is_open):
            compare = gui.add_checkbox("Show beside", False, hint="The frame whose camera is nearest to the view's.")
            self._photo = gui.add_image(np.zeros((1, 1, 3), np.uint8), label="", visible=False)
            self._go = gui.add_button("Go to its camera", visible=False)
        self._on_user(compare, window.compare)
        self._on_click(self._go, window.go_to_photo)
        films = window.films
        with gui.add_folder("Save", expand_by_default=is_open):
            screenshot = gui.add_button("Screenshot", hint="Downloads the view as a PNG.")
            self._record = gui.add_button(RECORD, hint="Records your camera, then renders an mp4.")
            quality = gui.add_dropdown("Video quality", (SHARP, FAST))
            self._cancel = gui.add_button("Cancel", visible=False, color="red")
            self._record_text = gui.add_markdown("", visible=False)
        self._on_click(screenshot, films.screenshot, is_long=True)
        self._on_click(self._record, films.record, is_long=True)
        self._on_click(self._cancel, films.cancel, is_long=True)
        self._on_user(quality, lambda value: films.set_sharp(value == SHARP))
        with gui.add_folder("Camera path", expand_by_default=False):
            self._keyframes = gui.add_markdown(_NO_KEYFRAMES)
            edit = gui.add_button_group("Keyframe", (ADD, REMOVE, CLEAR))
            self._keyframe_s = gui.add_number("Seconds each", films.keyframe_s, min=0.1, max=60.0, step=0.1)
            self._preview = gui.add_button(PREVIEW)
            self._render_path = gui.add_button("Render video of the path")
            export = gui.add_button("Export path", hint="A file for wnv-render trajectory=FILE.json and nerfstudio.")
            upload = gui.add_upload_button("Import path", mime_type="application/json")
        actions = {ADD: films.add_keyframe, REMOVE: films.remove_keyframe, CLEAR: films.clear}
        edits = {name: window.guarded(action) for name, action in actions.items()}
        edit.on_click(lambda event: edits[event.target.value]())
        self._on_user(self._keyframe_s, films.set_keyframe_s)
        self._on_click(self._preview, films.preview, is_long=True)
        self._on_click(self._render_path, films.render_path, is_long=True)
        self._on_click(export, films.export)
        load = window.guarded(films.load)
        upload.on_upload(lambda event: load(event.target.value))

    def show_scene(self, scene: ViewerScene, index: int, *, time: float) -> None:
        """Show the name of a scene, and adapt the controls to it."""
        kind = "dynamic" if scene.is_dynamic else "static"
        self._title.content = f"### {scene.name}\n{scene.num_frames} photos · {kind}"
        if self._num_scenes > 1:
            self._number.value = index
        # viser cannot change the range of a slider.
        if self._count is not None:
            self._count.remove()
        most = min(MAX_SLIDER_FRAMES, scene.num_frames)
        hint = "Spread over the scene's time." if scene.is_dynamic else "Neighbors of the current view."
        with self._context_folder:
            self._count = self._gui.add_slider("How many", 1, max(2, most), 1, 1, order=0, disabled=most < 2, hint=hint)
        self._on_user(self._count, self._window.spread_context)
        if self._time is not None:
            self._time.remove()
            self._time = None
        first, last = float(scene.times.min()), float(scene.times.max())
        self._time_folder.visible = scene.is_dynamic and last > first
        if self._time_folder.visible:
            with self._time_folder:
                step, start = (last - first) / 200, min(max(time, first), last)
                self._time = self._gui.add_slider("Moment", first, last, step, start)
            self._on_user(self._time, self._window.set_time)

    def show_frames(self, frames: tuple[int, ...]) -> None:
        """Show the frames of the context."""
        self._frames.value = ", ".join(map(str, frames))
        if self._count is not None:
            self._count.value = min(len(frames), int(self._count.max))

    def show_fov(self, degrees: float) -> None:
        """Show the field of view."""
        self._fov.value = round(min(max(degrees, FOV_DEG[0]), FOV_DEG[1]))

    def show_status(self, text: str) -> None:
        """Show the resolution and speed of rendering."""
        self._status.content = text

    def show_photo(self, image_u8: UInt8[np.ndarray, "height width 3"] | None, label: str = "") -> None:
        """Show a photo, or none."""
        self._photo.visible = self._go.visible = image_u8 is not None
        if image_u8 is not None:
            self._photo.image = image_u8
            self._photo.label = label

    def show_recording(self, text: str, *, is_recording: bool = False, is_rendering: bool = False) -> None:
        """Show the state of a recording or video."""
        self._record.label = STOP if is_recording else RECORD
        self._record.color = "red" if is_recording else None
        self._record.disabled = self._render_path.disabled = is_rendering
        self._cancel.visible = is_rendering
        self._record_text.content = text
        self._record_text.visible = bool(text)

    def show_keyframes(self, count: int, keyframe_s: float) -> None:
        """Show the number of keyframes and the time from one to the next."""
        duration = f", {(count - 1) * keyframe_s:.3g} s" if count > 1 else ""
        self._keyframes.content = f"{count} keyframe{'s' * (count > 1)}{duration}" if count else _NO_KEYFRAMES
        self._keyframe_s.value = round(keyframe_s, 3)

    def show_preview(self, *, is_playing: bool) -> None:
        """Show whether the path is played."""
        self._preview.label = STOP_PREVIEW if is_playing else PREVIEW

    def _on_click(self, button: viser.GuiButtonHandle, action: Callable[[], None], *, is_long: bool = False) -> None:
        guarded = self._window.guarded(action, is_long=is_long)
        button.on_click(lambda _: guarded())

    def _on_user(self, control: Any, action: Callable[[Any], None]) -> None:
        """Act on changes by the user; those by this program have no client."""
        guarded = self._window.guarded(action)
        control.on_update(lambda event: None if event.client is None else guarded(event.target.value))
