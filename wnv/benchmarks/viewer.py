"""Images per second of the viewer while its camera moves and at rest, and how the time is spent."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import cv2

from wnv.benchmarks.tables import Table
from wnv.evaluation.images import enlarge

SENT_SIDE, JPEG_QUALITY = 256, 90  # as in the viewer


def run(
    *,
    session: Any,
    context_sizes: Sequence[int] = (2, 4, 8),
    repeats: int = 60,
    still_repeats: int = 6,
    window: Sequence[int] = (800, 960),
) -> Table:
    """Time the steps of the viewer for each image: rendering, enlarging, JPEG.

    Args:
        session: The viewer's session; its first scene is rendered. It is closed at the end.
        context_sizes: Numbers of context views; each at most the number of the scene's frames.
        repeats: Timed images of a moving camera; the table shows the median.
        still_repeats: Timed images at rest; the table shows the median.
        window: Height and width of the window in pixels.

    Raises:
        ValueError: If the scene has fewer frames than a context needs.
    """
    home = session.home(session.scenes.first, aspect=window[1] / window[0])
    rows, figures = [], {}
    try:
        for size in context_sizes:
            request = replace(home, frames=tuple(range(size)))
            first = session.render(request)  # only its encoding is timed
            for is_still, times in ((False, repeats), (True, still_repeats)):
                parts = [_time_image(session, request, step=step, is_still=is_still) for step in range(times + 1)][1:]
                model_s, waiting_s, sending_s, whole_s = (statistics.median(part) for part in zip(*parts, strict=True))
                height, width = session.render(request, is_still=is_still).image_u8.shape[:2]
                name = f"{'rest' if is_still else 'moving'}_{size}"
                figures[name] = {
                    "images_per_s": 1 / whole_s,
                    "model_ms": 1e3 * model_s,
                    "waiting_ms": 1e3 * waiting_s,
                    "sending_ms": 1e3 * sending_s,
                    "encode_ms": 1e3 * first.encode_s,
                }
                rows.append(
                    (
                        f"{size} context views, {'at rest' if is_still else 'moving'}",
                        f"{width} x {height}",
                        *(f"{1e3 * value:.1f} ms" for value in (first.encode_s, model_s, waiting_s, sending_s)),
                        f"{1 / whole_s:.1f}",
                    )
                )
    finally:
        session.close()
    return Table(
        title="Viewer: images of one window",
        columns=("what", "pixels", "encode, once", "model", "waiting and cropping", "enlarging and JPEG", "images/s"),
        rows=rows,
        figures=figures,
    )


def _time_image(session: Any, request: Any, *, step: int, is_still: bool) -> tuple[float, float, float, float]:
    """Seconds of the model, of the rest of rendering, of enlarging and JPEG, and of all together."""
    camtoworld = request.camera.camtoworld.clone()
    camtoworld[0, 3] += 0.01 * step
    moved = replace(request, camera=replace(request.camera, camtoworld=camtoworld))
    start = perf_counter()
    view = session.render(moved, is_still=is_still)
    rendered = perf_counter()
    sent = enlarge(view.image_u8, min_side=SENT_SIDE)
    cv2.imencode(".jpeg", cv2.cvtColor(sent, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    end = perf_counter()
    return view.render_s, rendered - start - view.render_s, end - rendered, end - start
