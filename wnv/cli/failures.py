"""Failures of a training that one line explains."""

from pathlib import Path

import torch

from wnv.checkpoints.layout import BEST, holds_checkpoint
from wnv.cli.app import USER_ERRORS, describe_error
from wnv.runtime.errors import RunFailed
from wnv.training.module import TrainingDiverged


def explain_failure(error: Exception, *, step: int, first_step: int, run_dir: Path) -> Exception:
    """Return the error to raise: as `RunFailed`, with the way to continue, if a traceback would not help.

    Args:
        error: What ended the training.
        step: Number of completed steps.
        first_step: Number of steps that were done before; errors of the first step are the caller's.
        run_dir: Folder of the run.
    """
    if isinstance(error, TrainingDiverged):
        return TrainingDiverged(f"{error}{_back_to_the_best(run_dir)}")
    if isinstance(error, (RunFailed, OSError, torch.OutOfMemoryError, *USER_ERRORS)):
        resume = f"continue with run_dir={run_dir} resume=last" if holds_checkpoint(run_dir) else "nothing is saved"
        code = 2 if isinstance(error, USER_ERRORS) else 1
        if step == first_step and code == 2:
            return error
        text = describe_error(error)[1]
        if isinstance(error, OSError) and "checkpoint" in (error.strerror or ""):
            text = f"{error.filename}: {error.strerror}"
        return RunFailed(f"{text} (at step {step}; {resume})", code=code)
    return error


def _back_to_the_best(run_dir: Path) -> str:
    if not (run_dir / BEST).exists():
        return f"; {run_dir} has no {BEST} to go back to"
    return f"; go back with run_dir={run_dir} resume={run_dir / BEST} optim.lr=LOWER"
