"""Contact sheets of the validation scenes."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from typing_extensions import override

from wnv.runtime.atomic import atomic_file
from wnv.types import Batch


class ImageGrid(L.Callback):
    """Save a contact sheet after each validation: context views | target | rendered | error, one row per scene.

    Written to `FOLDER/step_00001000.png`, and logged to TensorBoard and Weights & Biases if they are used.

    Args:
        folder: Folder of the images.
        num_scenes: Rows; at most the validation batch size.
        error_gain: Factor of the absolute error, so that small errors are visible.

    Raises:
        ValueError: If `num_scenes` is not positive.
    """

    def __init__(self, *, folder: str | Path, num_scenes: int = 4, error_gain: float | int = 3.0) -> None:
        if num_scenes < 1:
            raise ValueError(f"num_scenes must be at least 1, got {num_scenes}")
        self.folder = Path(folder)
        self.num_scenes = num_scenes
        self.error_gain = error_gain

    @override
    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: dict[str, Tensor],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx > 0 or trainer.sanity_checking or not trainer.is_global_zero:
            return
        grid = make_grid(batch, outputs["rendered"], num_scenes=self.num_scenes, error_gain=self.error_gain)
        pixels = (grid.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        with atomic_file(self.folder / f"step_{trainer.global_step:08d}.png", overwrite=True) as file:
            Image.fromarray(pixels).save(file, format="PNG")
        caption = f"one row per scene: context, target, rendered, error x {self.error_gain:g}"
        for logger in trainer.loggers:
            _log_image(logger, pixels, step=trainer.global_step, caption=caption)


def make_grid(
    batch: Batch,
    rendered: Float[Tensor, "batch target 3 height width"],
    *,
    num_scenes: int,
    error_gain: float | int = 3.0,
) -> Float[Tensor, "3 grid_height grid_width"]:
    """Make rows of context views | first target | rendered | absolute error, with white borders.

    Raises:
        ValueError: If context and target images differ in size.
    """
    context, target = batch.context.images[:num_scenes].float(), batch.target.images[:num_scenes, :1].float()
    rendered = rendered[:num_scenes, :1].to(target)
    if context.shape[-2:] != target.shape[-2:]:
        raise ValueError(
            "callbacks.images needs context and target images of one size (height, width), got "
            f"{tuple(context.shape[-2:])} and {tuple(target.shape[-2:])}"
        )
    error = ((rendered - target).abs() * error_gain).clamp(0, 1)
    cells = torch.cat([context, target, rendered, error], dim=1)  # [b, cell, 3, h, w]
    cells = torch.nn.functional.pad(cells, (1, 1, 1, 1), value=1.0)
    return torch.cat([torch.cat(row.unbind(0), dim=-1) for row in cells.nan_to_num(0.0).unbind(0)], dim=-2)


def _log_image(logger: Any, pixels: np.ndarray, *, step: int, caption: str) -> None:
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(key="val/images", images=[pixels], step=step, caption=[caption])
    elif hasattr(getattr(logger, "experiment", None), "add_image"):  # TensorBoard
        logger.experiment.add_image("val/images", pixels, step, dataformats="HWC")
