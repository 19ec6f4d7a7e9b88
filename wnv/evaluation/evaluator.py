"""Score a model on scenes whose target views are known, beside a copy of the nearest context view."""

import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from wnv.evaluation.environment import describe_environment
from wnv.evaluation.layout import remove_outcome
from wnv.evaluation.loading import CaseBatch, load_batches, plan_batches
from wnv.evaluation.protocols.case import ExampleCases, Variant
from wnv.evaluation.ranks import Ranks
from wnv.evaluation.records import RecordFile, RecordKey, SceneRecord, is_continued
from wnv.evaluation.rendering import SceneModel, render_views
from wnv.evaluation.scores import score_views
from wnv.evaluation.summary import Summary, read_summary, summarize
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import LPIPS
from wnv.runtime.device import memory_stats
from wnv.types import Example


def evaluate(
    model: SceneModel,
    examples: Dataset[Example] | Sequence[Example] | Sequence[Variant],
    *,
    device: torch.device,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    protocol: str = "default",
    reference: str | None = None,
    lpips: LPIPS | None = None,
    lpips_note: str | None = None,
    ranks: Ranks | None = None,
    batch_size: int = 8,
    views_per_call: int = 8,
    num_workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    origin: Mapping[str, Any] | None = None,
    on_record: Callable[[SceneRecord], None] | None = None,
) -> Summary:
    """Draw every example's target views from its encoded context and score them.

    The scores depend on `batch_size` and `views_per_call` by no more than rounding, and not at all on how many
    processes share the examples or how often the evaluation was stopped (given the same number of threads in each).
    PSNR is capped at 100 dB.

    Args:
        model: Has `encode(context)` and `render(scene, cameras, times)`; it is moved to `device` and put in eval mode.
        examples: The variants of a protocol; or a data set or list of examples, which is one variant.
        device: Where to draw and score.
        out: A folder for `records.jsonl` (a line an example), `evaluation.json` (the settings) and `summary.json`; None
            writes nothing.
        settings: What the numbers depend on besides the code (weights, data, sizes): JSON values, kept in the
            summary. An evaluation is resumed only with equal settings.
        protocol: The protocol's name.
        reference: The variant that the others are compared with.
        lpips: Measures the perceptual distance, too; None leaves it out.
        lpips_note: Why it is left out, though it was asked for.
        ranks: The processes that share the examples; None: this one alone. Each needs the same arguments.
        batch_size: Examples drawn together.
        views_per_call: Target views drawn together, at most; bounds the memory.
        num_workers: Processes that load examples while others are drawn.
        resume: Go on with the records in `out`.
        overwrite: Replace the evaluation in `out`.
        origin: Facts for the summary's environment that no score depends on, as `weights_path`: where the weights lay.
        on_record: Called with each new record of this process.

    Raises:
        FileExistsError: If `out` holds an evaluation and neither `resume` nor `overwrite` is set.
        ValueError: If there is no example, if the model draws something that is not an image, if the records in
            `out` belong to other settings or other scenes, or if several processes have no folder to meet in.
    """
    settings, ranks = dict(settings or {}), ranks or Ranks()
    if ranks.world_size > 1 and out is None:
        raise ValueError(f"{ranks.world_size} processes share an evaluation through its folder; give out")
    variants = _as_variants(examples)
    plan = plan_batches(variants, batch_size=batch_size)
    model = model.to(device).eval()
    warm: set[tuple[int, ...]] = set()

    def rehearse() -> None:
        for batch in load_batches(variants, plan[:1], num_workers=0, pin_memory=False):
            with torch.inference_mode():
                _timed_draw(model, batch.to(device), device=device, views_per_call=views_per_call)
            warm.add(tuple(batch.batch.context.images.shape))

    journal = _open_journal(out, ranks, rehearse, settings=settings, resume=resume, overwrite=overwrite)
    records = {} if journal is None else dict(journal.records)
    _check_scenes(variants, records)

    pending = [batch for batch in plan if any((variants[number].name, index) not in records for number, index in batch)]
    share = pending[ranks.rank :: ranks.world_size]
    for batch in load_batches(variants, share, num_workers=num_workers, pin_memory=device.type == "cuda"):
        batch = batch.to(device)
        with torch.inference_mode():
            if (shape := tuple(batch.batch.context.images.shape)) not in warm:
                # The first call pays for compilation, allocation and autotuning: it is not timed.
                _timed_draw(model, batch, device=device, views_per_call=views_per_call)
                warm.add(shape)
            drawn, *milliseconds = _timed_draw(model, batch, device=device, views_per_call=views_per_call)
            made = _score(variants, batch, drawn, milliseconds=milliseconds, lpips=lpips)
        new = [record for record in made if record.key not in records]
        if journal is not None:
            journal.append(new)
        records |= {record.key: record for record in new}
        for record in new:
            if on_record is not None:
                on_record(record)

    peaks = ranks.gather(_peak_memory(device))  # and nobody goes on before all have ended
    if ranks.rank == 0:
        found = list(records.values()) if journal is None else journal.merge()
        summary = summarize(
            _in_order(found, variants),
            protocol=protocol,
            listings={variant.name: variant.listing for variant in variants if variant.listing is not None},
            reference=reference,
            lpips_backbone=None if lpips is None else lpips.backbone,
            lpips_note=lpips_note,
            num_processes=ranks.world_size,
            peak_memory=max(peaks, key=lambda peak: peak["bytes"]),
            settings=settings,
            environment=describe_environment(device) | dict(origin or {}),
        )
        if out is not None:
            summary.write(out)
    ranks.wait()
    return summary if ranks.rank == 0 else read_summary(out)


def _as_variants(examples: Dataset[Example] | Sequence[Example] | Sequence[Variant]) -> list[Variant]:
    if len(examples) and isinstance(examples, Sequence) and isinstance(examples[0], Variant):
        return list(examples)
    return [Variant(name="", cases=ExampleCases(examples))]


def _open_journal(
    out: str | Path | None, ranks: Ranks, rehearse: Callable[[], None], **options: Any
) -> RecordFile | None:
    """The first process brings the folder in order, then the others read it; what it refuses, all refuse.

    A new evaluation is rehearsed with its first batch before anything is written: most of what can be wrong with data
    and weights shows there, and then no folder is left behind and no earlier evaluation is lost.
    """
    journal, refusal = None, None
    if out is not None and ranks.rank == 0:
        try:
            if not is_continued(out, **options):
                rehearse()
            if options["overwrite"]:
                remove_outcome(Path(out))
            journal = RecordFile(out, **options)
        except (OSError, ValueError) as error:
            refusal = error
    refusal = ranks.gather(refusal)[0]
    if refusal is not None:
        raise refusal
    if out is not None and ranks.rank > 0:
        journal = RecordFile(out, rank=ranks.rank, opens=False, **options)
    ranks.wait()  # nobody appends while others read
    return journal


def _check_scenes(variants: Sequence[Variant], records: Mapping[RecordKey, SceneRecord]) -> None:
    """Refuse to go on with records of other scenes than those that have their places now."""
    named = {variant.name: variant for variant in variants}
    for (name, index), record in records.items():
        cases = named[name].cases if name in named else ()
        scene = cases.scene_of(index) if index < len(cases) else "not there"
        if scene is not None and scene != record.scene:
            raise ValueError(
                f"example {index} was of scene {record.scene} when the evaluation began and is {scene} now; the data "
                "has changed: choose another out= or pass overwrite=true"
            )


def _in_order(records: Sequence[SceneRecord], variants: Sequence[Variant]) -> list[SceneRecord]:
    order = {variant.name: number for number, variant in enumerate(variants)}
    return sorted(records, key=lambda record: (order[record.variant], record.index))


def _score(
    variants: Sequence[Variant],
    batch: CaseBatch,
    drawn: Tensor,
    *,
    milliseconds: Sequence[float],
    lpips: LPIPS | None,
) -> list[SceneRecord]:
    context, target = batch.batch.context, batch.batch.target
    copies = copy_nearest(batch.batch)
    encode_ms, render_ms = milliseconds
    records = []
    for i, ((number, index), scene) in enumerate(zip(batch.keys, batch.batch.scenes, strict=True)):
        truth = target.images[i]
        if drawn[i].shape != truth.shape or not bool(torch.isfinite(drawn[i]).all()):
            raise ValueError(
                f"scene {scene}: the model must draw finite images of shape {tuple(truth.shape)}, got shape "
                f"{tuple(drawn[i].shape)} with {int((~torch.isfinite(drawn[i])).sum())} values that are not finite"
            )
        masks = None if batch.masks is None else batch.masks[i]
        model_scores, num_capped = score_views(drawn[i], truth, masks=masks, lpips=lpips)
        context_frames, target_frames = batch.cases[i]
        records.append(
            SceneRecord(
                index=index,
                scene=scene,
                num_context=context.images.shape[1],
                context_times=context.times[i].tolist(),
                target_times=target.times[i].tolist(),
                model=model_scores,
                copy=score_views(copies[i], truth, masks=masks, lpips=lpips)[0],
                num_capped=num_capped,
                encode_ms=encode_ms,
                render_ms=render_ms,
                variant=variants[number].name,
                context_frames=None if context_frames is None else list(context_frames),
                target_frames=None if target_frames is None else list(target_frames),
            )
        )
    return records


def _timed_draw(
    model: SceneModel, batch: CaseBatch, *, device: torch.device, views_per_call: int
) -> tuple[Tensor, float, float]:
    """The drawn images, milliseconds a scene to encode and milliseconds a view to draw."""
    context, target = batch.batch.context, batch.batch.target
    start = _clock(device)
    scene = model.encode(context)
    encoded = _clock(device)
    drawn = render_views(model, scene, target.cameras, target.times, views_per_call=views_per_call)
    end = _clock(device)
    num_views = math.prod(target.times.shape)
    return drawn, 1000 * (encoded - start) / len(batch.batch), 1000 * (end - encoded) / num_views


def _clock(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # kernels run behind the program's back
    return time.perf_counter()


def _peak_memory(device: torch.device) -> dict[str, Any]:
    """The most memory that this process has needed in its life so far."""
    if device.type != "cpu":
        return {
            "bytes": memory_stats(device).get("allocated_bytes.all.peak", 0),
            "of": f"allocated on the {device.type} device",
        }
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux
    return {"bytes": 1024 * kilobytes, "of": "resident in the process, libraries included"}
