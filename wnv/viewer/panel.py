"""The controls beside the view, for one window."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import viser
from jaxtyping import UInt8

from wnv.viewer.scenes import ViewerScene

PREVIOUS, NEXT = "◀ Previous", "Next ▶"
RESET, OVERVIEW = "Reset view", "All cameras"
RECORD, STOP = "Record", "Stop and save"
MOST_GIVEN = 16  # that the slider spreads; more can be typed
FOV_DEG = (10, 110)

_HELP = (
    "Drag to turn, right-drag to move, scroll to come closer. What you see is drawn from the **given photographs** "
    "alone; *All cameras* shows where those were taken, in orange."
)


@dataclass(frozen=True)
class Actions:
    """What happens when somebody uses a control.

    Attributes:
        step: One scene back (-1) or on (1).
        show_scene: The scene of that number.
        spread: Give so many photographs, evenly spread.
        give: Give the frames of that text.
        set_fov: Vertical field of view in degrees.
        reset: To where the scene begins.
        overview: To where all cameras can be seen.
        set_time: The moment, on the scene's clock.
        compare: Whether the nearest photograph is shown.
        go_to_photo: To the camera of that photograph.
        record: Begin to record, or end and save.
        set_cameras: Whether the cameras are shown.
    """

    step: Callable[[int], None]
    show_scene: Callable[[int], None]
    spread: Callable[[int], None]
    give: Callable[[str], None]
    set_fov: Callable[[float], None]
    reset: Callable[[], None]
    overview: Callable[[], None]
    set_time: Callable[[float], None]
    compare: Callable[[bool], None]
    go_to_photo: Callable[[], None]
    record: Callable[[], None]
    set_cameras: Callable[[bool], None]


class Panel:
    """Builds the controls of one window and shows in them what is the case.

    Args:
        gui: The window's controls.
        actions: What they do.
        num_scenes: Scenes one can step through.
    """

    def __init__(self, gui: viser.GuiApi, actions: Actions, *, num_scenes: int) -> None:
        self._gui = gui
        self._num_scenes = num_scenes
        self._title = gui.add_markdown("")
        gui.add_markdown(_HELP)
        self._status = gui.add_markdown("…")
        if num_scenes > 1:
            with gui.add_folder("Scene"):
                steps = gui.add_button_group("Step", (PREVIOUS, NEXT))
                steps.on_click(lambda event: actions.step(-1 if event.target.value == PREVIOUS else 1))
                self._number = gui.add_number("Number", 0, min=0, max=num_scenes - 1, step=1)
                self._on_user(self._number, lambda value: actions.show_scene(int(value)))
        self._given_folder = gui.add_folder("Given photographs")
        self._count: viser.GuiSliderHandle[int] | None = None
        with self._given_folder:
            self._frames = gui.add_text(
                "Frames", "", hint="Numbers of the frames that are given, as 0, 12, 24. Or click a camera in the view."
            )
        self._on_user(self._frames, actions.give)
        self._spread = actions.spread
        with gui.add_folder("Camera"):
            self._fov = gui.add_slider("View angle °", *FOV_DEG, 1, 60, hint="Of the view's height, in degrees.")
            places = gui.add_button_group("Go to", (RESET, OVERVIEW))
            cameras = gui.add_checkbox("Show cameras", True)
        self._on_user(cameras, actions.set_cameras)
        self._on_user(self._fov, actions.set_fov)
        places.on_click(lambda event: actions.reset() if event.target.value == RESET else actions.overview())
        self._time_folder = gui.add_folder("Time", visible=False)
        self._time: viser.GuiSliderHandle[float] | None = None
        self._set_time = actions.set_time
        with gui.add_folder("Nearest photograph"):
            compare = gui.add_checkbox("Show beside", False, hint="The one whose camera is nearest to the view's.")
            self._photo = gui.add_image(np.zeros((1, 1, 3), np.uint8), label="", visible=False)
            self._go = gui.add_button("Go to its camera", visible=False)
        self._on_user(compare, actions.compare)
        self._go.on_click(lambda _: actions.go_to_photo())
        with gui.add_folder("Video"):
            self._record = gui.add_button(RECORD, hint="Records how you move; then it is drawn at rest's size, as mp4.")
            self._record_text = gui.add_markdown("", visible=False)
        self._record.on_click(lambda _: actions.record())

    def show_scene(self, scene: ViewerScene, index: int, *, time: float) -> None:
        """Tell which scene it is, and fit the controls to it."""
        place = f"scene {index + 1} of {self._num_scenes} · " if self._num_scenes > 1 else ""
        kind = "things move" if scene.is_dynamic else "nothing moves"
        self._title.content = f"### {scene.name}\n{place}{scene.num_frames} photographs · {kind}"
        if self._num_scenes > 1:
            self._number.value = index
        # The range of a slider cannot change.
        if self._count is not None:
            self._count.remove()
        most = min(MOST_GIVEN, scene.num_frames)
        with self._given_folder:
            self._count = self._gui.add_slider(
                "How many", 1, max(2, most), 1, 1, order=0, disabled=most < 2, hint="Evenly spread over the scene."
            )
        self._on_user(self._count, self._spread)
        if self._time is not None:
            self._time.remove()
            self._time = None
        first, last = float(scene.times.min()), float(scene.times.max())
        self._time_folder.visible = scene.is_dynamic and last > first
        if self._time_folder.visible:
            with self._time_folder:
                step, start = (last - first) / 200, min(max(time, first), last)
                self._time = self._gui.add_slider("Moment", first, last, step, start)
            self._on_user(self._time, self._set_time)

    def show_frames(self, frames: tuple[int, ...]) -> None:
        """Tell which frames are given."""
        self._frames.value = ", ".join(map(str, frames))
        if self._count is not None:
            self._count.value = min(len(frames), self._count.max)

    def show_fov(self, degrees: float) -> None:
        """Put the slider of the field of view there."""
        self._fov.value = round(min(max(degrees, FOV_DEG[0]), FOV_DEG[1]))

    def show_status(self, text: str) -> None:
        """Tell how drawing goes."""
        self._status.content = text

    def show_photo(self, image_u8: UInt8[np.ndarray, "height width 3"] | None, label: str = "") -> None:
        """Show a photograph; None shows none."""
        self._photo.visible = self._go.visible = image_u8 is not None
        if image_u8 is not None:
            self._photo.image = image_u8
            self._photo.label = label

    def show_recording(self, text: str, *, is_recording: bool) -> None:
        """Tell how the recording goes."""
        self._record.label = STOP if is_recording else RECORD
        self._record.color = "red" if is_recording else None
        self._record_text.content = text
        self._record_text.visible = bool(text)

    def _on_user(self, control: Any, action: Callable[[Any], None]) -> None:
        """Act on what a person does; what this program sets comes without a client."""
        control.on_update(lambda event: None if event.client is None else action(event.target.value))
