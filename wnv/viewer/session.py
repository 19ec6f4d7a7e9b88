"""State that all windows of a viewer share: open scenes, encoded contexts, and the model."""

from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
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
BORDER_GREY = 20  # beside an image in a wide window
Result = TypeVar("Result")


@dataclass(frozen=True)
class ViewRequest:
    """A view that a window shows.

    Attributes:
        scene: Index of the scene.
        frames: Frames of the scene that are the context.
        camera: Camera of the window, in the world that the viewer shows.
        time: Time on the scene's clock; ignored for static scenes.
    """

    scene: int
    frames: tuple[int, ...]
    camera: WindowCamera
    time: float = 0.0


@dataclass(frozen=True)
class RenderedView:
    """A rendered view.

    Attributes:
        image_u8: RGB, the part of the image that the window shows.
        render_s: Seconds of rendering, without waiting.
        encode_s: Seconds of encoding the context; 0 if it was encoded already.
    """

    image_u8: UInt8[np.ndarray, "height width 3"]
    render_s: float
    encode_s: float


class SceneSession:
    """A model and the scenes it renders, shared by any number of threads.

    The model runs in its own thread, on small jobs in order of submission, so that no window waits long for another
    window's image. The latest encoded contexts are kept.

    A model renders worse at image sizes other than the one it was trained with, which should be that of the context. A
    larger image is therefore merged from several images of the known size, shifted by fractions of a patch, which also
    removes the edges of patches. A smaller image is rendered directly: faster, and worse.

    Args:
        model: Any model with `encode` and `render`.
        scenes: The scenes to show.
        device: Where to render.
        patch_size: Height and width of an image must be multiples of it.
        moving_side: Pixels of the shorter side while the camera moves, rounded to a possible size; default: the
            context's.
        still_side: The same while the camera rests; default: four times the context's.
        num_encoded: Number of encoded contexts to keep; bounds the memory.

    Raises:
        ValueError: If a number is out of range.
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
        self._open = lru_cache(_MAX_OPEN_SCENES)(scenes.open)
        self._open_lock = Lock()
        self._encoding = lru_cache(num_encoded)(self._encode)  # used by the worker alone
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wnv-render")

    def close(self) -> None:
        """Finish the current job and drop the others."""
        self._worker.shutdown(cancel_futures=True)

    def scene(self, index: int) -> ViewerScene:
        """Open a scene, or return it if it is among the latest ones.

        Raises:
            IndexError: If there is no such scene.
        """
        if not 0 <= index < len(self.scenes):
            raise IndexError(f"scene must be in 0..{len(self.scenes) - 1}, got {index}")
        with self._open_lock:
            return self._open(index)

    def home(self, index: int, *, aspect: float | None = None) -> ViewRequest:
        """The first view of a scene: that of its first context frame, in a window of this aspect."""
        scene = self.scene(index)
        frames = scene.default_context
        cameras = scene.context(frames).cameras
        camera = WindowCamera(
            camtoworld=scene.camtoworld[frames[0]],
            fov_y=float(vertical_fov(cameras[0])),
            aspect=cameras.width / cameras.height if aspect is None else aspect,
        )
        return ViewRequest(scene=index, frames=frames, camera=camera, time=float(scene.times[frames[0]]))

    def image_size(self, scene: int, *, is_still: bool) -> tuple[int, int, int]:
        """Height and width of the images to render, and how many of them to merge along each axis."""
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
        """Encode a context, unless it is encoded already."""
        self._do(lambda: self._encoding(scene, frames))

    def render(
        self, request: ViewRequest, *, is_still: bool = False, is_stale: Callable[[], bool] = lambda: False
    ) -> RenderedView | None:
        """Render a view.

        Args:
            request: The view.
            is_still: Whether to render it at the resolution of a camera at rest.
            is_stale: Called before each job; if it returns True, rendering stops and the result is None.

        Raises:
            ValueError: If the scene does not have these frames.
            IndexError: If there is no such scene.
            CancelledError: If the session is closed.
        """
        scene = self.scene(request.scene)
        frames = scene.check_frames(request.frames)
        height, width, factor = self.image_size(request.scene, is_still=is_still)
        framing = frame_window(request.camera, height=height, width=width)
        shifts = subpixel_shifts(factor=factor, patch_size=self._patch_size)
        K = shift_K(framing.K, [shift / factor for shift in shifts]).float()
        camtoworld = scene.to_context_world(request.camera.camtoworld[None], frames).float()
        cameras = Cameras(K=K, camtoworld=camtoworld.expand(factor, factor, 4, 4), width=width, height=height)
        time = scene.context_time(request.time, frames)

        encoded, encode_s = self._do(lambda: self._timed_encoding(request.scene, frames))
        rows, render_s = [], 0.0
        for row in range(factor):
            if is_stale():
                return None
            images, row_s = self._do(lambda row=row: self._render_row(encoded, cameras[row], time))
            rows.append(images)
            render_s += row_s
        whole = rows[0][0] if factor == 1 else self._do(lambda: merge_shifted_images(torch.stack(rows), shifts))
        shown = whole[:, _scaled(framing.rows, factor), _scaled(framing.columns, factor)]
        image_u8 = np.pad(to_u8(shown), ((0, 0), (factor * framing.border,) * 2, (0, 0)), constant_values=BORDER_GREY)
        return RenderedView(image_u8=image_u8, render_s=render_s, encode_s=encode_s)

    def _do(self, job: Callable[[], Result]) -> Result:
        """Run a job in the worker and return its result."""
        try:
            future = self._worker.submit(job)
        except RuntimeError:  # the worker was shut down
            raise CancelledError from None
        return future.result()

    def _render_row(
        self, encoded: Any, cameras: Cameras, time: float
    ) -> tuple[Float[Tensor, "view 3 height width"], float]:
        """Render views; returns them and the seconds it took."""
        started = perf_counter()
        times = torch.full((1, cameras.batch_shape[0]), time)
        with torch.inference_mode():
            images = render_views(self._model, encoded, cameras[None].to(self._device), times.to(self._device))[0]
        return images.cpu(), perf_counter() - started

    def _timed_encoding(self, scene: int, frames: tuple[int, ...]) -> tuple[Any, float]:
        """The encoded context, and the seconds it took: 0 if it was encoded already."""
        started, misses = perf_counter(), self._encoding.cache_info().misses
        encoded = self._encoding(scene, frames)
        is_new = self._encoding.cache_info().misses > misses
        return encoded, perf_counter() - started if is_new else 0.0

    def _encode(self, scene: int, frames: tuple[int, ...]) -> Any:
        context = self.scene(scene).context(frames)
        with torch.inference_mode():
            return self._model.encode(context[None].to(self._device))


def _scaled(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)
