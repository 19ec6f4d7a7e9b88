"""Score a model on scenes whose target views are known, beside a copy of the nearest context view."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from wnv.evaluation.provenance import provenance
from wnv.evaluation.records import RecordFile, SceneRecord
from wnv.evaluation.rendering import SceneModel, draw_views
from wnv.evaluation.summary import Summary, summarize
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import psnr, ssim
from wnv.types import Batch, Example, collate

PSNR_CAP_DB = 100.0  # what `psnr` gives for a view equal to the truth, whose PSNR is infinite


def evaluate(
    model: SceneModel,
    examples: Dataset[Example] | Iterable[Batch | Example],
    *,
    device: torch.device,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    views_per_call: int = 8,
    num_workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    on_record: Callable[[SceneRecord], None] | None = None,
) -> Summary:
    """Draw every example's target views from its encoded context and score them.

    The scores do not depend on `batch_size` or `views_per_call`. PSNR is capped at 100 dB.

    Args:
        model: Has `encode(context)` and `render(scene, cameras, times)`; it is moved to `device` and put in eval mode.
        examples: A data set, of which scenes that are already recorded are not loaded again; or any iterable of
            examples or batches.
        device: Where to draw and score.
        out: A folder for `records.jsonl` (a line a scene), `evaluation.json` (the settings) and `summary.json`; None
            writes nothing.
        settings: What the numbers depend on besides the code (weights, data, sizes): JSON values, kept in the
            summary. An evaluation is resumed only with equal settings.
        batch_size: Scenes drawn together, if `examples` is a data set.
        views_per_call: Target views drawn together, at most; bounds the memory.
        num_workers: Processes that load a data set's examples.
        resume: Go on with the records in `out`.
        overwrite: Replace the evaluation in `out`.
        on_record: Called with each new record.

    Raises:
        FileExistsError: If `out` holds an evaluation and neither `resume` nor `overwrite` is set.
        ValueError: If there is no example, if the model draws something that is not an image, or if the
            records in `out` belong to other settings.
    """
    settings = dict(settings or {})
    journal = None if out is None else RecordFile(out, settings=settings, resume=resume, overwrite=overwrite)
    records = [] if journal is None else list(journal.records.values())
    done = {record.index: record.scene for record in records}

    model = model.to(device).eval()
    warm = False
    for indices, batch in _batches(examples, done=done, batch_size=batch_size, num_workers=num_workers):
        batch = batch.to(device)
        with torch.inference_mode():
            if not warm:  # the first call pays for compilation, allocation and autotuning: it is not timed
                _timed_draw(model, batch, device=device, views_per_call=views_per_call)
                warm = True
            drawn, encode_ms, render_ms = _timed_draw(model, batch, device=device, views_per_call=views_per_call)
            new = _score(indices, batch, drawn, encode_ms=encode_ms, render_ms=render_ms)
        if journal is not None:
            journal.append(new)
        records += new
        for record in new:
            if on_record is not None:
                on_record(record)

    records.sort(key=lambda record: record.index)
    summary = summarize(records, settings=settings, provenance=provenance(device))
    if out is not None:
        summary.write(out)
    return summary


def score_views(
    drawn: Float[Tensor, "view 3 height width"], truth: Float[Tensor, "view 3 height width"]
) -> tuple[dict[str, list[float]], int]:
    """Every metric of every view, and how many views have the PSNR at which it is capped, 100 dB."""
    decibels = [min(value, PSNR_CAP_DB) for value in psnr(drawn, truth).tolist()]
    num_capped = sum(value > PSNR_CAP_DB - 1e-3 for value in decibels)
    return {"psnr": decibels, "ssim": ssim(drawn, truth).tolist()}, num_capped


def _score(
    indices: Sequence[int], batch: Batch, drawn: Tensor, *, encode_ms: float, render_ms: float
) -> list[SceneRecord]:
    copies = copy_nearest(batch)
    records = []
    for i, (index, scene) in enumerate(zip(indices, batch.scenes, strict=True)):
        truth = batch.target.images[i]
        if drawn[i].shape != truth.shape or not bool(torch.isfinite(drawn[i]).all()):
            raise ValueError(
                f"scene {scene}: the model must draw finite images of shape {tuple(truth.shape)}, got shape "
                f"{tuple(drawn[i].shape)} with {int((~torch.isfinite(drawn[i])).sum())} values that are not finite"
            )
        model_scores, num_capped = score_views(drawn[i], truth)
        records.append(
            SceneRecord(
                index=index,
                scene=scene,
                num_context=batch.context.images.shape[1],
                context_times=batch.context.times[i].tolist(),
                target_times=batch.target.times[i].tolist(),
                model=model_scores,
                copy=score_views(copies[i], truth)[0],
                num_capped=num_capped,
                encode_ms=encode_ms,
                render_ms=render_ms,
            )
        )
    return records


def _timed_draw(
    model: SceneModel, batch: Batch, *, device: torch.device, views_per_call: int
) -> tuple[Tensor, float, float]:
    """The drawn images, milliseconds a scene to encode and milliseconds a view to draw."""
    start = _clock(device)
    scene = model.encode(batch.context)
    encoded = _clock(device)
    drawn = draw_views(model, scene, batch.target.cameras, batch.target.times, views_per_call=views_per_call)
    end = _clock(device)
    num_views = math.prod(batch.target.times.shape)
    return drawn, 1000 * (encoded - start) / len(batch), 1000 * (end - encoded) / num_views


def _clock(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # kernels run behind the program's back
    return time.perf_counter()


def _batches(
    examples: Dataset[Example] | Iterable[Batch | Example],
    *,
    done: Mapping[int, str],
    batch_size: int,
    num_workers: int,
) -> Iterator[tuple[list[int], Batch]]:
    """Batches of scenes that are not `done`, each with the scenes' places in the order."""
    if isinstance(examples, Dataset) and not isinstance(examples, IterableDataset):
        left = [index for index in range(len(examples)) if index not in done]
        loader = DataLoader(
            examples,
            batch_size=batch_size,
            sampler=left,
            num_workers=num_workers,
            collate_fn=collate,
            multiprocessing_context="spawn" if num_workers else None,  # a forked copy of a running model may hang
        )
        position = 0
        for batch in loader:
            yield left[position : position + len(batch)], batch
            position += len(batch)
        return

    index = 0
    for item in examples:
        batch = item if isinstance(item, Batch) else collate([item])
        indices = list(range(index, index + len(batch)))
        index += len(batch)
        for i, scene in zip(indices, batch.scenes, strict=True):
            if done.get(i, scene) != scene:
                raise ValueError(
                    f"scene {i} was {done[i]} when the evaluation began and is {scene} now; the data has changed: "
                    "choose another out= or pass overwrite=true"
                )
        keep = [i for i, place in enumerate(indices) if place not in done]
        if keep:
            yield (
                [indices[i] for i in keep],
                Batch(
                    scenes=tuple(batch.scenes[i] for i in keep),
                    context=batch.context[keep],
                    target=batch.target[keep],
                ),
            )
