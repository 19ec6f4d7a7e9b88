"""What a person looks at: sheets of drawn targets, and camera paths as video."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from wnv.evaluation.camera_path import CameraPath
from wnv.evaluation.contact_sheet import Cell, contact_sheet, scene_row
from wnv.evaluation.images import to_u8, write_png
from wnv.evaluation.rendering import SceneModel, render_path
from wnv.evaluation.video import check_fps, write_gif, write_mp4
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import psnr
from wnv.runtime.atomic import atomic_folder
from wnv.types import Example, Views, collate

log = logging.getLogger(__name__)

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
        drawn = render_path(model, example.context, target.cameras, target.times, device=device)
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
class PathVideo:
    """The files of a drawn path; None where one was not asked for.

    Attributes:
        psnr_db: Mean PSNR of the frames where the truth is known, in dB.
    """

    mp4: Path
    gif: Path
    sheet: Path
    frames: Path | None
    psnr_db: float | None = None


def write_path_video(
    model: SceneModel,
    context: Views,
    shot: CameraPath,
    *,
    out: str | Path,
    device: torch.device,
    render_size: Sequence[int] | None = None,
    patch_size: int = 8,
    there_and_back: bool = False,
    side_by_side: bool = False,
    fps: float | int = 24,
    min_side: int = 256,
    write_frames: bool = False,
    views_per_call: int = 8,
    title: str = "",
    overwrite: bool = False,
) -> PathVideo:
    """Draw a path through one scene into `path.mp4`, `path.gif`, `path.png` (a sheet) and `frames/`.

    Args:
        model: The model that draws.
        context: The scene's given views, batch axes `view`, in the normalised world.
        shot: What is drawn.
        out: Folder for the files.
        device: Where to draw.
        render_size: Height and width of the pictures that the model draws and a frame is put together from; None draws
            each frame at its own size.
        patch_size: Side of the model's patches in pixels.
        there_and_back: Whether the video also goes the way back, so that it has no jump when it repeats.
        side_by_side: Whether the video shows the truth on the left of what is drawn.
        fps: Frames per second.
        min_side: Small pictures are enlarged by a whole factor until their shorter side has this many pixels.
        write_frames: Whether each frame is written as PNG too, as drawn.
        views_per_call: Frames drawn together, at most; bounds the memory.
        title: A line above the sheet.
        overwrite: Whether files that are there may be replaced.

    Raises:
        FileExistsError: If a file is there and `overwrite` is False; nothing is drawn then. Or if `frames/` holds
            anything but frames.
        ValueError: If the frame rate is not positive, or there is no truth to show.
    """
    out = Path(out)
    paths = (out / "path.mp4", out / "path.gif", out / "path.png", out / "frames" if write_frames else None)
    for path in paths:
        if path is not None and path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; choose another out= or pass overwrite=true")
    check_fps(fps)
    if side_by_side and shot.truth is None:
        raise ValueError(
            "side_by_side=true needs the truth, which is known along trajectory=recorded of a scene file, and in the "
            "synthetic world; leave it out for other paths"
        )
    images = render_path(
        model,
        context,
        shot.cameras,
        shot.times,
        device=device,
        render_size=render_size,
        patch_size=patch_size,
        views_per_call=views_per_call,
    )
    film = PathVideo(*paths, psnr_db=None if shot.truth is None else psnr(images, shot.truth).mean().item())

    if film.frames is not None:
        # The folder is replaced as a whole: the end of a longer path that was there must not stay behind.
        earlier = [path.name for path in film.frames.glob("??????.png")] if film.frames.is_dir() else []
        with atomic_folder(film.frames, entries=earlier, overwrite=overwrite) as folder:
            for i, frame in enumerate(to_u8(images)):
                write_png(folder / f"{i:06d}.png", frame)
    elif (out / "frames").exists():
        log.warning("%s is of an earlier film: this one is written without frames (write_frames=true)", out / "frames")
    write_png(film.sheet, path_sheet(context, images, truth=shot.truth, title=title), overwrite=overwrite)
    shown = torch.cat([shot.truth, images], dim=-1) if side_by_side else images
    if there_and_back:
        shown = torch.cat([shown, shown[1:-1].flip(0)])
    write_mp4(film.mp4, shown, fps=fps, min_side=min_side, overwrite=overwrite)
    write_gif(film.gif, shown, fps=fps, min_side=min_side, overwrite=overwrite)
    return film


def path_sheet(
    context: Views,
    images: Float[Tensor, "view 3 height width"],
    *,
    truth: Float[Tensor, "view 3 height width"] | None = None,
    title: str = "",
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """The context views, and below them stills of the path drawn from them, above the truth where it is known."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(NUM_STILLS, len(images))).round().astype(int)).tolist()
    rows = {
        title or "given": [Cell(image, f"context {i + 1}") for i, image in enumerate(context.images)],
        "drawn": [Cell(images[i], f"frame {i}") for i in chosen],
    }
    if truth is not None:
        rows["truth"] = [Cell(truth[i], f"frame {i}") for i in chosen]
    return contact_sheet(list(rows.values()), row_titles=list(rows))
