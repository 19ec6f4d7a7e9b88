"""What all windows of a viewer share: scenes opened once, contexts encoded once, one model that draws."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from wnv.evaluation.images import to_u8
from wnv.evaluation.rendering import SceneModel, render_views
from wnv.evaluation.supersampling import merge_shifted_images, shift_K, subpixel_shifts
from wnv.types import Cameras
from wnv.viewer.camera import WindowCamera, frame_window, vertical_fov
from wnv.viewer.scenes import SceneList, ViewerScene

_MAX_OPEN_SCENES = 8
Result = TypeVar("Result")


@dataclass(frozen=True)
class ViewRequest:
    """What a window asks to see.

    Attributes:
        scene: Number of the scene.
        frames: Its frames that are given.
        camera: The window's camera, in the world that the scene is shown in.
        time: The moment, on the scene's own clock; static scenes ignore it.
    """

    scene: int
    frames: tuple[int, ...]
    camera: WindowCamera
    time: float = 0.0


@dataclass(frozen=True)
class Drawing:
    """A view as it was drawn.

    Attributes:
        image_u8: RGB, the part of the picture that the window shows.
        draw_s: Seconds that the model took, without waiting for its turn.
        encode_s: Seconds that encoding the context took; zero where it was encoded already.
    """

    image_u8: UInt8[np.ndarray, "height width 3"]
    draw_s: float
    encode_s: float


class SceneSession:
    """A model and the scenes it draws from, for any number of threads.

    A context is encoded once, and its encoding kept while it is among the latest ones. The model works in a thread of
    its own, on small pieces in the order in which they are asked for: no window waits long for another one's picture.

    A model knows pictures of the size that it was trained on, which should be that of the context's images; at another
    one it draws worse, or something else. So a larger picture is the mean of several of the known size that are shifted
    by parts of a patch: finer, and without the edges of patches. A smaller one is drawn as it is: faster, and worse.

    Args:
        model: Any model with `encode` and `render`.
        scenes: What can be shown.
        device: Where to draw.
        patch_size: What height and width of a picture must be a multiple of.
        moving_side: Pixels of a picture's shorter side while the camera moves, rounded to what can be drawn; None is
            the context's.
        still_side: The same while nothing moves; None is four times the context's.
        num_encoded: How many encodings are kept; bounds the memory.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        *,
        model: SceneModel,
        scenes: SceneList,
        device: torch.device,
        patch_size: int,
        moving_side: int | None = None,
        still_side: int | None = None,
        num_encoded: int = 4,
    ) -> None:
        for name, value in (("moving_side", moving_side), ("still_side", still_side), ("num_encoded", num_encoded)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if moving_side is not None and still_side is not None and still_side < moving_side:
            raise ValueError(f"still_side must be at least moving_side={moving_side}, got {still_side}")
        self.scenes = scenes
        self._model = model.to(device).eval()
        self._device = device
        self._patch_size = patch_size
        self._moving_side = moving_side
        self._still_side = still_side
        self._num_encoded = num_encoded
        self._encoded: OrderedDict[tuple[int, tuple[int, ...]], Any] = OrderedDict()
        self._open: OrderedDict[int, ViewerScene] = OrderedDict()
        self._open_lock = Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wnv-draw")

    def close(self) -> None:
        """Draw what is being drawn, drop the rest."""
        self._worker.shutdown(cancel_futures=True)

    def scene(self, index: int) -> ViewerScene:
        """The scene of that number; opened when first asked for, and kept while it is among the latest ones.

        Raises:
            IndexError: If there is no such scene.
        """
        if not 0 <= index < len(self.scenes):
            raise IndexError(f"scene must be in 0..{len(self.scenes) - 1}, got {index}")
        with self._open_lock:
            if index not in self._open:
                self._open[index] = self.scenes.open(index)
                if len(self._open) > _MAX_OPEN_SCENES:
                    self._open.popitem(last=False)
            self._open.move_to_end(index)
            return self._open[index]

    def home(self, index: int, *, aspect: float | None = None) -> ViewRequest:
        """The view that a scene begins with: its first given frame, in a window of that shape."""
        scene = self.scene(index)
        frames = scene.default_context
        cameras = scene.context(frames).cameras
        camera = WindowCamera(
            camtoworld=scene.camtoworld[frames[0]],
            fov_y=float(vertical_fov(cameras[0])),
            aspect=cameras.width / cameras.height if aspect is None else aspect,
        )
        return ViewRequest(scene=index, frames=frames, camera=camera, time=float(scene.times[frames[0]]))

    def picture_size(self, scene: int, *, is_still: bool) -> tuple[int, int, int]:
        """Height and width of the picture that is drawn, and how many of them are merged along each axis."""
        height, width = self.scene(scene).image_size
        known = min(height, width)
        side = self._still_side if is_still else self._moving_side
        if side is None:
            side = 4 * known if is_still else known
        if side >= known:
            return height, width, round(side / known)
        patch = self._patch_size
        height, width = (max(1, round(length * side / known / patch)) * patch for length in (height, width))
        return height, width, 1

    def encode(self, scene: int, frames: tuple[int, ...]) -> None:
        """Encode a context, if it is not encoded yet."""
        self._do(lambda: self._encode(scene, frames))

    def draw(
        self, request: ViewRequest, *, is_still: bool = False, is_stale: Callable[[], bool] = lambda: False
    ) -> Drawing | None:
        """Draw a view when its turn comes.

        Args:
            request: What to draw.
            is_still: Whether to draw at the size for a camera that does not move.
            is_stale: Asked before each piece of work; once it says yes, the rest is dropped and the answer is None.

        Raises:
            ValueError: If the scene does not have these frames.
            IndexError: If there is no such scene.
            CancelledError: If the session is closed.
        """
        scene = self.scene(request.scene)
        frames = scene.check_frames(request.frames)
        height, width, factor = self.picture_size(request.scene, is_still=is_still)
        framing = frame_window(request.camera, height=height, width=width)
        shifts = subpixel_shifts(factor=factor, patch_size=self._patch_size)
        K = shift_K(framing.K, [shift / factor for shift in shifts]).float()
        camtoworld = scene.to_context_world(request.camera.camtoworld[None], frames).float()
        cameras = Cameras(K=K, camtoworld=camtoworld.expand(factor, factor, 4, 4), width=width, height=height)
        moment = scene.context_time(request.time, frames)

        encoded, encode_s = self._do(lambda: self._encode(request.scene, frames))
        rows, draw_s = [], 0.0
        for row in range(factor):
            if is_stale():
                return None
            drawn, row_s = self._do(lambda row=row: self._draw_row(encoded, cameras[row], moment))
            rows.append(drawn)
            draw_s += row_s
        whole = rows[0][0] if factor == 1 else self._do(lambda: merge_shifted_images(torch.stack(rows), shifts))
        shown = whole[:, _scaled(framing.rows, factor), _scaled(framing.columns, factor)]
        return Drawing(image_u8=to_u8(shown), draw_s=draw_s, encode_s=encode_s)

    def _do(self, work: Callable[[], Result]) -> Result:
        """The result of a piece of work, done in the worker's thread when its turn comes."""
        try:
            job = self._worker.submit(work)
        except RuntimeError:  # what an executor says when it is shut down
            raise CancelledError from None
        return job.result()

    def _draw_row(
        self, encoded: Any, cameras: Cameras, moment: float
    ) -> tuple[Float[Tensor, "view 3 height width"], float]:
        """The views and the seconds they took."""
        started = perf_counter()
        times = torch.full((1, cameras.batch_shape[0]), moment)
        with torch.inference_mode():
            drawn = render_views(self._model, encoded, cameras[None].to(self._device), times.to(self._device))[0].cpu()
        return drawn, perf_counter() - started

    def _encode(self, scene: int, frames: tuple[int, ...]) -> tuple[Any, float]:
        """The encoding, and the seconds it took: zero if it was there."""
        key, started = (scene, frames), perf_counter()
        is_new = key not in self._encoded
        if is_new:
            context = self.scene(scene).context(frames)
            with torch.inference_mode():
                self._encoded[key] = self._model.encode(context[None].to(self._device))
            if len(self._encoded) > self._num_encoded:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(key)
        return self._encoded[key], perf_counter() - started if is_new else 0.0


def _scaled(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)
