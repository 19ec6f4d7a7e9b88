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
MAX_SLIDER_FRAMES = 16  # of the slider; more can be typed
FOV_DEG = (10, 110)

_HELP = (
    "Drag to turn, right-drag to move, scroll to zoom. The view is rendered from the **context photos** alone; "
    "*All cameras* shows their cameras in orange."
)


class Panel:
    """Builds the controls of a window and shows its state in them.

    Args:
        gui: The controls of the client.
        window: Its window, whose methods the controls call.
        num_scenes: Number of scenes.
    """

    def __init__(self, gui: viser.GuiApi, window: "Window", *, num_scenes: int) -> None:
        self._gui = gui
        self._window = window
        self._num_scenes = num_scenes
        self._title = gui.add_markdown("")
        gui.add_markdown(_HELP)
        self._status = gui.add_markdown("…")
        if num_scenes > 1:
            with gui.add_folder("Scene"):
                steps = gui.add_button_group("Step", (PREVIOUS, NEXT))
                step_scene = window.guarded(window.step_scene)
                steps.on_click(lambda event: step_scene(-1 if event.target.value == PREVIOUS else 1))
                self._number = gui.add_number("Number", 0, min=0, max=num_scenes - 1, step=1)
                self._on_user(self._number, lambda value: window.show_scene(int(value)))
        self._context_folder = gui.add_folder("Context photos")
        self._count: viser.GuiSliderHandle[int] | None = None
        with self._context_folder:
            hint = "Frames of the context, for example 0, 12, 24. Or click a camera in the view."
            self._frames = gui.add_text("Frames", "", hint=hint)
        self._on_user(self._frames, window.set_context_text)
        with gui.add_folder("Camera"):
            self._fov = gui.add_slider("View angle °", *FOV_DEG, 1, 60, hint="Vertical field of view in degrees.")
            places = gui.add_button_group("Go to", (RESET, OVERVIEW))
            cameras = gui.add_checkbox("Show cameras", True)
        self._on_user(cameras, window.show_cameras)
        self._on_user(self._fov, window.set_fov)
        reset, overview = window.guarded(window.reset_view), window.guarded(window.overview)
        places.on_click(lambda event: reset() if event.target.value == RESET else overview())
        self._time_folder = gui.add_folder("Time", visible=False)
        self._time: viser.GuiSliderHandle[float] | None = None
        with gui.add_folder("Nearest photo"):
            compare = gui.add_checkbox("Show beside", False, hint="The frame whose camera is nearest to the view's.")
            self._photo = gui.add_image(np.zeros((1, 1, 3), np.uint8), label="", visible=False)
            self._go = gui.add_button("Go to its camera", visible=False)
        self._on_user(compare, window.compare)
        go_to_photo = window.guarded(window.go_to_photo)
        self._go.on_click(lambda _: go_to_photo())
        with gui.add_folder("Video"):
            self._record = gui.add_button(RECORD, hint="Records your camera, then renders an mp4.")
            self._record_text = gui.add_markdown("", visible=False)
        record = window.guarded(window.record, is_long=True)
        self._record.on_click(lambda _: record())

    def show_scene(self, scene: ViewerScene, index: int, *, time: float) -> None:
        """Show the name of a scene, and adapt the controls to it."""
        place = f"scene {index + 1} of {self._num_scenes} · " if self._num_scenes > 1 else ""
        kind = "dynamic" if scene.is_dynamic else "static"
        self._title.content = f"### {scene.name}\n{place}{scene.num_frames} photos · {kind}"
        if self._num_scenes > 1:
            self._number.value = index
        # viser cannot change the range of a slider.
        if self._count is not None:
            self._count.remove()
        most = min(MAX_SLIDER_FRAMES, scene.num_frames)
        with self._context_folder:
            self._count = self._gui.add_slider(
                "How many", 1, max(2, most), 1, 1, order=0, disabled=most < 2, hint="Evenly spread over the scene."
            )
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

    def show_recording(self, text: str, *, is_recording: bool) -> None:
        """Show the state of a recording."""
        self._record.label = STOP if is_recording else RECORD
        self._record.color = "red" if is_recording else None
        self._record_text.content = text
        self._record_text.visible = bool(text)

    def _on_user(self, control: Any, action: Callable[[Any], None]) -> None:
        """Act on changes by the user; those by this program have no client."""
        guarded = self._window.guarded(action)
        control.on_update(lambda event: None if event.client is None else guarded(event.target.value))
