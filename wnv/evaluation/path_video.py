"""Render a camera path into video files and a contact sheet."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from wnv.evaluation.camera_path import CameraPath
from wnv.evaluation.contact_sheet import Cell, contact_sheet
from wnv.evaluation.images import to_u8, write_png
from wnv.evaluation.rendering import SceneModel, render_path
from wnv.evaluation.video import check_fps, write_gif, write_mp4
from wnv.metrics.image import psnr
from wnv.runtime.atomic import atomic_folder
from wnv.types import Views

log = logging.getLogger(__name__)

NUM_STILLS = 4  # frames on the contact sheet


@dataclass(frozen=True)
class PathVideo:
    """The files of a rendered path."""

    mp4: Path
    gif: Path
    sheet: Path
    frames: Path | None
    """Folder of the frames as PNG files, if requested."""
    psnr_db: float | None = None
    """Mean PSNR of the frames; None if the ground truth is unknown."""

    @property
    def files(self) -> list[Path]:
        """All files, and the folder of frames if there is one."""
        return [path for path in (self.mp4, self.gif, self.sheet, self.frames) if path is not None]


def write_path_video(
    model: SceneModel,
    context: Views,
    path: CameraPath,
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
    """Render a path through a scene into `path.mp4`, `path.gif`, `path.png` (a contact sheet) and `frames/`.

    `there_and_back` also plays the video backwards, so that it loops without a jump; `side_by_side` shows the ground
    truth on the left. Small frames are enlarged by an integer factor until their shorter side has `min_side` pixels.
    `title` stands above the contact sheet. `render_path` describes the other arguments.

    Raises:
        FileExistsError: If a file exists and `overwrite` is False (nothing is rendered then), or if `frames/` holds
            other files.
        ValueError: If the frame rate is out of range, or `side_by_side` lacks the ground truth.
    """
    out = Path(out)
    video = PathVideo(out / "path.mp4", out / "path.gif", out / "path.png", out / "frames" if write_frames else None)
    for file in video.files:
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists; choose another out= or pass overwrite=true")
    check_fps(fps)
    if side_by_side and path.truth is None:
        raise ValueError(
            "side_by_side=true needs the ground truth, which is known in the synthetic world and along "
            "trajectory=recorded of a scene file; leave it out for other paths"
        )
    images = render_path(
        model,
        context,
        path.cameras,
        path.times,
        device=device,
        render_size=render_size,
        patch_size=patch_size,
        views_per_call=views_per_call,
    )
    if video.frames is not None:
        _write_frames(video.frames, images, overwrite=overwrite)
    elif (out / "frames").exists():
        log.warning("%s belongs to an earlier video; set write_frames=true to replace it", out / "frames")
    write_png(video.sheet, _path_sheet(context, images, truth=path.truth, title=title), overwrite=overwrite)
    shown = to_u8(images if path.truth is None or not side_by_side else torch.cat([path.truth, images], dim=-1))
    if there_and_back:
        shown = np.concatenate([shown, shown[-2:0:-1]])
    write_mp4(video.mp4, shown, fps=fps, min_side=min_side, overwrite=overwrite)
    write_gif(video.gif, shown, fps=fps, min_side=min_side, overwrite=overwrite)
    return video if path.truth is None else replace(video, psnr_db=psnr(images, path.truth).mean().item())


def _write_frames(folder: Path, images: Float[Tensor, "view 3 height width"], *, overwrite: bool) -> None:
    """Write PNG files, replacing the folder as a whole so that no frames of a longer path remain."""
    existing = [path.name for path in folder.glob("??????.png")] if folder.is_dir() else []
    with atomic_folder(folder, entries=existing, overwrite=overwrite) as frames:
        for i, image in enumerate(to_u8(images)):
            write_png(frames / f"{i:06d}.png", image)


def _path_sheet(
    context: Views,
    images: Float[Tensor, "view 3 height width"],
    *,
    truth: Float[Tensor, "view 3 height width"] | None,
    title: str,
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """The context views, stills of the path, and the ground truth of the stills if it is known."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(NUM_STILLS, len(images))).round().astype(int)).tolist()
    rows = {
        title or "context": [Cell(image, f"context {i + 1}") for i, image in enumerate(context.images)],
        "rendered": [Cell(images[i], f"frame {i}") for i in chosen],
    }
    if truth is not None:
        rows["ground truth"] = [Cell(truth[i], f"frame {i}") for i in chosen]
    return contact_sheet(list(rows.values()), row_titles=list(rows))
