"""Problems of runs and evaluations that a reader of their scores has to know."""

import math
from collections.abc import Iterator
from pathlib import Path

from wnv.evaluation.layout import PICTURES_FOLDER
from wnv.evaluation.records import SceneRecord
from wnv.evaluation.table import caveats
from wnv.pages.html import counted
from wnv.pages.runs.run import Evaluation, Run, Training
from wnv.training.run_folder import FAILED, STOPPED

_MAX_NAMES = 5


def failures(run: Run, *, with_training: bool = True) -> list[str]:
    """Describe the problems of a run and its evaluations, one sentence each; empty if there are none."""
    found: list[str] = []
    if run.training is not None and with_training:
        found += _of_training(run.training)
    for evaluation in run.evaluations:
        found += [f"{evaluation.folder}: {text}" for text in _of_evaluation(evaluation)]
    return found


def empty_job(folder: Path) -> str:
    """Describe a job of a sweep that left nothing."""
    logs = sorted(folder.glob("*.log"))
    hint = f"; see {logs[0].name}" if logs else ""
    return f"This job of a sweep left neither a run nor an evaluation: it failed early, or has not started{hint}."


def _of_training(training: Training) -> Iterator[str]:
    done, wanted, end = training.num_steps, training.max_steps, training.last_end
    progress = f"step {done}" if wanted is None else f"step {done} of {wanted}"
    is_short = wanted is not None and done < wanted
    if end is None and training.logs_ends:
        yield f"The last start has not ended: it is running, or was killed at or after {progress}."
    elif end is None and is_short:
        yield f"It reached {progress}; its version did not log how it ended."
    elif end is not None and end["how"] == FAILED:
        yield f"It failed at {progress}: {end['message']}"
    elif end is not None and end["how"] == STOPPED:
        yield f"It was stopped by {end['message']} at {progress}; resume=last continues it."
    elif end is not None and is_short:
        yield f"It ended at {progress}, at trainer.max_time or a limit of epochs."
    if not training.metrics:
        yield "It has no metrics.csv (written by logger=csv), so it has no curves."
    skipped = training.last("train/skipped_steps")
    if skipped:
        yield f"{counted(round(skipped), 'step')} skipped: loss or gradient was not finite, or the gradient too large."
    metrics = training.metrics.items()
    broken = [name for name, points in metrics if not all(math.isfinite(value) for _, value in points)]
    if broken:
        yield f"Not finite at some steps: {', '.join(sorted(broken))}."


def _of_evaluation(evaluation: Evaluation) -> Iterator[str]:
    summary = evaluation.summary
    if summary is None:
        yield f"not finished, {counted(len(evaluation.records), 'example')} scored; resume=true continues it."
        return
    yield from caveats(summary)
    for variant in summary.variants:
        behind = variant.num_examples - variant.num_ahead
        if behind:
            name = f"{variant.variant}: " if variant.variant else ""
            leads = [(_lead(record), record.scene) for record in evaluation.variant(variant.variant)]
            lags = sorted((lead, scene) for lead, scene in leads if lead is not None and lead <= 0)
            names = ", ".join(f"{scene} by {abs(lead):.1f} dB" for lead, scene in lags[:_MAX_NAMES])
            yield f"{name}no better than the nearest context view in {behind} of {variant.num_examples}: {names}."
    if not (evaluation.folder / PICTURES_FOLDER).is_dir():
        yield "no images (num_sheet_scenes=6 saves some)."


def _lead(record: SceneRecord) -> float | None:
    """How far the model is ahead of the copied view, in dB; None where either has no score."""
    psnr, copied = record.mean("model", "psnr"), record.mean("copy", "psnr")
    return None if psnr is None or copied is None else psnr - copied
