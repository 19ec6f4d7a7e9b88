"""Score a model on scenes with known target views, and a copy of the nearest context view as baseline."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from wnv.evaluation.environment import describe_environment, peak_memory
from wnv.evaluation.layout import remove_results
from wnv.evaluation.loading import CaseBatch, load_batches, plan_batches
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.ranks import Ranks
from wnv.evaluation.records import RecordFile, RecordKey, SceneRecord, can_resume
from wnv.evaluation.rendering import SceneModel, render_views
from wnv.evaluation.saved_images import SavedImages
from wnv.evaluation.scores import score_views
from wnv.evaluation.summary import Summary, read_summary, summarize
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import LPIPS
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
    show_progress: bool = False,
    save_images: bool = False,
) -> Summary:
    """Render the target views of every example from its encoded context and score them.

    `batch_size` and `views_per_call` change scores only by rounding. The number of processes and interruptions do not
    change them at all, given the same number of threads per process. PSNR is capped at 100 dB.

    Args:
        model: Moved to `device` and put in eval mode.
        examples: The variants of a protocol; or a data set or list of examples, treated as one variant.
        device: Renders and scores.
        out: Folder for `records.jsonl` (one line per example), `evaluation.json` (the settings) and `summary.json`;
            None writes nothing.
        settings: What the scores depend on besides the code (weights, data, sizes), as JSON values; stored in the
            summary. Only an evaluation with equal settings is resumed.
        protocol: Name of the protocol.
        reference: Name of the variant that the others are compared with.
        lpips: Measures LPIPS; None omits it.
        lpips_note: Why LPIPS is omitted although it was requested.
        ranks: The processes that share the examples, each called with the same arguments; None is this one alone.
        batch_size: Examples rendered together.
        views_per_call: Largest number of target views rendered together; limits memory.
        num_workers: Worker processes that load examples.
        resume: Continue the evaluation in `out`.
        overwrite: Replace the evaluation in `out`.
        origin: Further facts for the summary's environment, such as `weights_path`; scores do not depend on them.
        show_progress: Whether rank 0 shows a progress bar on stderr.
        save_images: Whether to write every rendered target and its ground truth, see `SavedImages`.

    Raises:
        FileExistsError: If `out` holds an evaluation and neither `resume` nor `overwrite` is set.
        ValueError: If there are no examples, the model does not render valid images, the records in `out` have other
            settings or scenes, or several processes have no `out`.
    """
    settings, ranks = dict(settings or {}), ranks or Ranks()
    if ranks.world_size > 1 and out is None:
        raise ValueError(f"{ranks.world_size} processes share an evaluation through its folder; set out")
    variants = _as_variants(examples)
    images = None
    if save_images:
        if out is None:
            raise ValueError("save_images=true needs a folder; set out")
        images = SavedImages(out, variants)
    plan = plan_batches(variants, batch_size=batch_size)
    render = _TimedRenderer(model, device=device, views_per_call=views_per_call)

    def try_first_batch() -> None:
        for batch in load_batches(variants, plan[:1], num_workers=0, pin_memory=False):
            render.warm_up(batch.to(device))

    journal = _open_journal(out, ranks, try_first_batch, settings=settings, resume=resume, overwrite=overwrite)
    records = {} if journal is None else dict(journal.records)
    _check_scenes(variants, records)

    def is_done(key: RecordKey) -> bool:
        return key in records and (images is None or images.has(key, records[key].scene))

    pending = [keys for keys in plan if not all(map(is_done, keys))]
    share = pending[ranks.rank :: ranks.world_size]
    with _progress_bar(sum(map(len, plan)), done=len(records), shown=show_progress and ranks.rank == 0) as bar:
        for batch in load_batches(variants, share, num_workers=num_workers, pin_memory=device.type == "cuda"):
            batch = batch.to(device)
            render.warm_up(batch)
            rendered, encode_ms, render_ms = render(batch)
            scored = _score(batch, rendered, encode_ms, render_ms, lpips=lpips)
            new = [record for record in scored if record.key not in records]
            if images is not None:  # before the record: a scored example has its images
                images.write(batch, rendered)
            if journal is not None:
                journal.append(new)
            records |= {record.key: record for record in new}
            for record in new:
                psnr, copy = record.mean("model", "psnr"), record.mean("copy", "psnr")
                bar.set_postfix_str(f"{psnr:.2f} dB, copy {copy:.2f} dB", refresh=False)
                bar.update(min(ranks.world_size, bar.total - bar.n))  # assumes that the other ranks are as far

    peaks = ranks.gather(peak_memory(device))  # also waits until all processes have finished
    summary = None
    if ranks.rank == 0:
        found = list(records.values()) if journal is None else journal.merge()
        names = [variant.name for variant in variants]
        summary = summarize(
            sorted(found, key=lambda record: (names.index(record.variant), record.index)),
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
    return summary or read_summary(str(out))


class _TimedRenderer:
    """Renders batches and measures the time; the first batch of each shape warms up without being measured."""

    def __init__(self, model: SceneModel, *, device: torch.device, views_per_call: int) -> None:
        self.model = model.to(device).eval()
        self.device = device
        self.views_per_call = views_per_call
        self._warm_shapes: set[torch.Size] = set()

    def warm_up(self, batch: CaseBatch) -> None:
        """Render once per shape: the first call includes compilation, allocation and autotuning."""
        shape = batch.batch.context.images.shape
        if shape not in self._warm_shapes:
            self(batch)
            self._warm_shapes.add(shape)

    @torch.inference_mode()
    def __call__(self, batch: CaseBatch) -> tuple[Tensor, float, float]:
        """The rendered images, the encoding time per scene and the rendering time per view, in milliseconds."""
        context, target = batch.batch.context, batch.batch.target
        start = self._clock()
        scene = self.model.encode(context)
        encoded = self._clock()
        images = render_views(self.model, scene, target.cameras, target.times, views_per_call=self.views_per_call)
        end = self._clock()
        num_views = math.prod(target.times.shape)
        return images, 1000 * (encoded - start) / len(batch.batch), 1000 * (end - encoded) / num_views

    def _clock(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()


def _as_variants(examples: Dataset[Example] | Sequence[Example] | Sequence[Variant]) -> list[Variant]:
    if isinstance(examples, Sequence) and examples and isinstance(examples[0], Variant):
        return cast(list[Variant], list(examples))
    return [Variant("", cast(Dataset[Example], examples))]


def _progress_bar(total: int, *, done: int, shown: bool) -> tqdm:
    """Make a bar that appears with the first record, so that an error before it is a single line."""
    wide = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc="evaluate",
        unit="example",
        dynamic_ncols=wide,
        delay=1e-6,
        disable=not shown,
    )


def _open_journal(
    out: str | Path | None, ranks: Ranks, try_first_batch: Callable[[], None], **options: Any
) -> RecordFile | None:
    """Open the records: rank 0 prepares the folder, then the others read it. An error in rank 0 is raised in all.

    A new evaluation renders its first batch before it writes anything, so that most mistakes in data and weights leave
    no folder behind and no earlier evaluation is lost.
    """
    journal, error = None, None
    if out is not None and ranks.rank == 0:
        try:
            if not can_resume(out, **options):
                try_first_batch()
            if options["overwrite"]:
                remove_results(Path(out))
            journal = RecordFile(out, **options)
        except (OSError, ValueError) as caught:
            error = caught
    error = ranks.gather(error)[0]
    if error is not None:
        raise error
    if out is not None and ranks.rank > 0:
        journal = RecordFile(out, rank=ranks.rank, opens=False, **options)
    ranks.wait()  # no process appends while others read
    return journal


def _check_scenes(variants: Sequence[Variant], records: Mapping[RecordKey, SceneRecord]) -> None:
    """Check that existing records have the same scenes as the data."""
    by_name = {variant.name: variant for variant in variants}
    for (name, index), record in records.items():
        variant = by_name.get(name)
        scene = "missing" if variant is None or index >= len(variant) else variant.scene_of(index)
        if scene is not None and scene != record.scene:
            raise ValueError(
                f"example {index} was scene {record.scene} when the evaluation began and is now scene {scene}: the "
                "data have changed; choose another out= or pass overwrite=true"
            )


@torch.inference_mode()
def _score(
    batch: CaseBatch, images: Tensor, encode_ms: float, render_ms: float, *, lpips: LPIPS | None
) -> list[SceneRecord]:
    context, target = batch.batch.context, batch.batch.target
    copies = copy_nearest(batch.batch)
    records = []
    for i, ((variant, index), (context_frames, target_frames), scene) in enumerate(
        zip(batch.keys, batch.frames, batch.batch.scenes, strict=True)
    ):
        rendered, truth = images[i], target.images[i]
        if rendered.shape != truth.shape or not bool(torch.isfinite(rendered).all()):
            raise ValueError(
                f"scene {scene}: the model must render finite images of shape {tuple(truth.shape)}, got shape "
                f"{tuple(rendered.shape)} with {int((~torch.isfinite(rendered)).sum())} values that are not finite"
            )
        masks = None if batch.masks is None else batch.masks[i]
        model_scores, num_capped = score_views(rendered, truth, masks=masks, lpips=lpips)
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
                variant=variant,
                context_frames=None if context_frames is None else list(context_frames),
                target_frames=None if target_frames is None else list(target_frames),
            )
        )
    return records
