"""Callbacks of Lightning that change optimizers, schedules or weights, and what to use instead."""

from collections.abc import Iterable

import lightning as L
from lightning.pytorch import callbacks as lightning_callbacks

INSTEAD = {
    "LearningRateFinder": "compare rates with a sweep: wnv-train -m optim.lr=1e-4,3e-4,1e-3",
    "BatchSizeFinder": "set data.batch_size",
    "StochasticWeightAveraging": "average the weights with callbacks=[default,ema]",
    "WeightAveraging": "average the weights with callbacks=[default,ema]",  # also EMAWeightAveraging
    "GradientAccumulationScheduler": "set trainer.accumulate_grad_batches",
    "BaseFinetuning": "freeze parameters in the model (requires_grad=False)",  # also BackboneFinetuning
    "ModelPruning": "prune the trained weights",
}
"""Unsupported callbacks: they assume a schedule per epoch, or replace what the module and its checkpoints own."""


def check_callbacks(callbacks: Iterable[L.Callback]) -> None:
    """Check that no callback would be silently undone by the module's optimizer, schedule or checkpoints.

    Raises:
        ValueError: With what to use instead.
    """
    for callback in callbacks:
        for name, fix in INSTEAD.items():
            if isinstance(callback, getattr(lightning_callbacks, name)):
                raise ValueError(
                    f"callbacks: {type(callback).__name__} does not work with the module's own optimizer and "
                    f"schedule; leave it out, and {fix}"
                )
