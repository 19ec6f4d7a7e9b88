"""What did not go well in runs and evaluations, in words."""

import math
from collections.abc import Iterator

from wnv.evaluation.layout import PICTURES_FOLDER
from wnv.evaluation.records import SceneRecord
from wnv.evaluation.table import caveats
from wnv.pages.runs.runs import Evaluation, Run, Training
from wnv.pages.words import counted
from wnv.training.run_folder import FAILED, STOPPED

_MAX_NAMES = 5


def failures(run: Run, *, with_training: bool = True) -> list[str]:
    """Everything about a run that a reader of its scores has to know, a sentence each; nothing where all went well.

    Args:
        run: The run.
        with_training: Whether its training is told of; once is enough for several evaluations of one training.
    """
    training = run.training if with_training else None
    found = [] if training is None else [*_of_the_end(training), *_of_the_steps(training)]
    for evaluation in run.evaluations:
        found += [f"{evaluation.folder}: {words}" for words in _of_an_evaluation(evaluation)]
    return found


def _of_the_end(training: Training) -> Iterator[str]:
    done, wanted = training.num_steps, training.max_steps
    progress = f"step {done}" if wanted is None else f"step {done} of {wanted}"
    end = training.last_end
    if end is None and training.notes_ends:
        yield f"Its last start has not ended: it is still running, or was killed at or after {progress}."
    elif end is None and wanted is not None and done < wanted:
        yield f"It is at {progress}; how it ended was not noted by its version."
    elif end is not None and end["how"] == FAILED:
        yield f"It failed at {progress}: {end['message']}"
    elif end is not None and end["how"] == STOPPED:
        yield f"It was stopped by {end['message']} at {progress}; resume=last goes on with it."
    elif end is not None and wanted is not None and done < wanted:
        yield f"It ended at {progress}, as trainer.max_time or a limit of epochs asked."
    if not training.metrics:
        yield "It has no metrics.csv (logger=csv writes it), so no curves are drawn."


def _of_the_steps(training: Training) -> Iterator[str]:
    skipped = training.last("train/skipped_steps")
    if skipped:
        count = counted(round(skipped), "step")
        yield f"{count} changed nothing, because loss or gradient were not finite or far too long."
    metrics = training.metrics.items()
    broken = [name for name, points in metrics if not all(math.isfinite(value) for _, value in points)]
    if broken:
        yield f"Not finite at some steps: {', '.join(sorted(broken))}."


def _of_an_evaluation(evaluation: Evaluation) -> Iterator[str]:
    summary = evaluation.summary
    if summary is None:
        yield f"not finished, {counted(len(evaluation.records), 'example')} scored; resume=true goes on with it."
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
        yield "no pictures (num_sheet_scenes=6 makes some)."


def _lead(record: SceneRecord) -> float | None:
    """How far the model is ahead of the copy, in dB; None where either has no score."""
    psnr, copied = record.mean("model", "psnr"), record.mean("copy", "psnr")
    return None if psnr is None or copied is None else psnr - copied
