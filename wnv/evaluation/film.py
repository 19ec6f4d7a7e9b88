"""What a person looks at: sheets of drawn targets, and camera paths as video."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from wnv.evaluation.contact_sheet import Cell, contact_sheet, scene_row
from wnv.evaluation.pictures import to_u8, write_png
from wnv.evaluation.rendering import SceneModel, draw_path
from wnv.evaluation.video import write_gif, write_mp4
from wnv.geometry.trajectories import make_trajectory
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import psnr
from wnv.scenes.atomic import atomic_folder
from wnv.types import Example, Views, collate

NUM_STILLS = 4  # frames of a path that are shown below its context


def target_sheet(
    model: SceneModel, examples: Sequence[Example], *, device: torch.device, with_error: bool = False
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """One row an example, for one of its targets: context | target | drawn | nearest context view, with their PSNR.

    The target is the one for which copying the nearest context view has its median PSNR: neither an easy one, next to
    a context camera, nor the hardest.

    Args:
        model: The model that draws.
        examples: The scenes, each with its truth.
        device: Where to draw.
        with_error: Whether a map of the drawn view's error ends each row.
    """
    rows = []
    for example in examples:
        copies = copy_nearest(collate([example]))[0]
        copies_db = psnr(copies, example.target.images)
        shown = int(copies_db.median(dim=0).indices)
        target = example.target[shown : shown + 1]
        drawn = draw_path(model, example.context, target.cameras, target.times, device=device)
        rows.append(
            scene_row(
                context=example.context.images,
                truth=target.images[0],
                drawn=drawn[0],
                copied=copies[shown],
                drawn_db=psnr(drawn, target.images).item(),
                copied_db=copies_db[shown].item(),
                with_error=with_error,
            )
        )
    return contact_sheet(rows, row_titles=[example.scene for example in examples])


@dataclass(frozen=True)
class Film:
    """The files of a drawn camera path; None where one was not asked for."""

    mp4: Path
    gif: Path
    sheet: Path
    frames: Path | None


def film_path(
    model: SceneModel,
    context: Views,
    *,
    out: str | Path,
    trajectory: str,
    num_views: int,
    device: torch.device,
    options: Mapping[str, Any] | None = None,
    time: float | int | Sequence[float | int] | None = None,
    there_and_back: bool = False,
    fps: float | int = 24,
    min_side: int = 256,
    write_frames: bool = False,
    views_per_call: int = 8,
    title: str = "",
    overwrite: bool = False,
) -> Film:
    """Draw a camera path through one scene into `path.mp4`, `path.gif`, `path.png` (a sheet) and `frames/`.

    Args:
        model: The model that draws.
        context: The scene's given views, batch axes `view`, in the normalised world.
        out: Folder for the files.
        trajectory: A name in `wnv.geometry.trajectories.TRAJECTORIES`.
        num_views: Cameras on the path.
        device: Where to draw.
        options: Options of the trajectory, by keyword.
        time: Of a dynamic scene, on the context's scale (0 is its first moment, 1 its last): one time for all frames,
            or `[first, last]` to move through. None moves from 0 to 1 where the context's times differ.
        there_and_back: Whether the video also goes the way back, so that it has no jump when it repeats.
        fps: Frames per second.
        min_side: Small pictures are enlarged by a whole factor until their shorter side has this many pixels.
        write_frames: Whether each frame is written as PNG too, as drawn.
        views_per_call: Frames drawn together, at most; bounds the memory.
        title: A line above the sheet.
        overwrite: Whether files that are there may be replaced.

    Raises:
        FileExistsError: If a file is there and `overwrite` is False; nothing is drawn then. Or if `frames/` holds
            anything but frames.
        ValueError: If the trajectory, the time or the frame rate is out of its range.
    """
    out = Path(out)
    film = Film(out / "path.mp4", out / "path.gif", out / "path.png", out / "frames" if write_frames else None)
    for path in (film.mp4, film.gif, film.sheet, film.frames):
        if path is not None and path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; choose another out= or pass overwrite=true")
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    cameras = make_trajectory(trajectory, context.cameras, num_views=num_views, **dict(options or {}))
    times = _path_times(context, num_views=num_views, time=time)
    images = draw_path(model, context, cameras, times, device=device, views_per_call=views_per_call)

    if film.frames is not None:
        # The folder is replaced as a whole: the end of a longer path that was there must not stay behind.
        earlier = [path.name for path in film.frames.glob("??????.png")] if film.frames.is_dir() else []
        with atomic_folder(film.frames, entries=earlier, overwrite=overwrite) as folder:
            for i, frame in enumerate(to_u8(images)):
                write_png(folder / f"{i:06d}.png", frame)
    write_png(film.sheet, path_sheet(context, images, title=title), overwrite=overwrite)
    shown = torch.cat([images, images[1:-1].flip(0)]) if there_and_back else images
    write_mp4(film.mp4, shown, fps=fps, min_side=min_side, overwrite=overwrite)
    write_gif(film.gif, shown, fps=fps, min_side=min_side, overwrite=overwrite)
    return film


def path_sheet(
    context: Views, images: Float[Tensor, "view 3 height width"], *, title: str = ""
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """The context views, and below them stills of the path drawn from them."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(NUM_STILLS, len(images))).round().astype(int)).tolist()
    return contact_sheet(
        [
            [Cell(image, f"context {i + 1}") for i, image in enumerate(context.images)],
            [Cell(images[i], f"frame {i}") for i in chosen],
        ],
        row_titles=[title, "drawn"] if title else ["given", "drawn"],
    )


def _path_times(
    context: Views, *, num_views: int, time: float | int | Sequence[float | int] | None
) -> Float[Tensor, " view"]:
    if time is None:
        is_dynamic = bool((context.times != context.times[0]).any())
        time = (0.0, 1.0) if is_dynamic else float(context.times[0])
    if isinstance(time, (float, int)):
        return torch.full((num_views,), float(time))
    if len(time) != 2:
        raise ValueError(f"time must be one number or [first, last], on the context's scale 0..1, got {list(time)}")
    return torch.linspace(float(time[0]), float(time[1]), num_views)
