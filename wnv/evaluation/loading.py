"""Load cases in batches that are the same for any number of processes and after a resume."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from wnv.data.loader_processes import loader_context
from wnv.evaluation.protocols.cases import Case, Variant
from wnv.evaluation.records import RecordKey
from wnv.types import Batch, collate

Frames = tuple[int, ...] | None


class CaseBatch(NamedTuple):
    """Cases of one variant that are rendered together; a named tuple, so that torch pins its tensors.

    Attributes:
        keys: The variant and index of each case.
        frames: The context and target frames of each case.
        batch: Their examples, stacked.
        masks: Their masks, `case target height width`; None if they have none.
    """

    keys: Sequence[RecordKey]
    frames: Sequence[tuple[Frames, Frames]]
    batch: Batch
    masks: Tensor | None

    def to(self, device: torch.device) -> "CaseBatch":
        """Move all tensors to a device."""
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        return self._replace(batch=self.batch.to(device, non_blocking=True), masks=masks)


def plan_batches(variants: Sequence[Variant], *, batch_size: int) -> list[list[RecordKey]]:
    """Divide the cases of all variants into batches, a function of the variants and the batch size alone.

    Cases in one batch share kernels and therefore the last digit of their scores. So a batch is never divided between
    processes, and it is rendered as a whole even if some of its cases are already scored.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    return [
        [(variant.name, index) for index in range(start, min(start + batch_size, len(variant)))]
        for variant in variants
        for start in range(0, len(variant), batch_size)
    ]


def load_batches(
    variants: Sequence[Variant], plan: Sequence[list[RecordKey]], *, num_workers: int, pin_memory: bool
) -> Iterator[CaseBatch]:
    """Load the planned batches of `variants` in order. A batch whose cases differ in shape is yielded in parts."""
    dataset = _CaseDataset(variants)
    loader = DataLoader(
        dataset,
        batch_sampler=list(plan),
        num_workers=min(num_workers, len(plan)),
        collate_fn=_stack,
        pin_memory=pin_memory,
        multiprocessing_context=loader_context(dataset) if num_workers and plan else None,
        generator=torch.Generator().manual_seed(0),  # leaves the global generator unchanged
    )
    for batches in loader:
        if isinstance(batches, Exception):
            raise batches
        yield from batches


class _CaseDataset(Dataset[tuple[RecordKey, Case]]):
    """The cases of several variants by key, served by one set of workers."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self.variants = {variant.name: variant for variant in variants}

    def __getitems__(self, keys: Sequence[RecordKey]) -> list[tuple[RecordKey, Case]] | Exception:
        """Load one batch. A worker returns an exception as a value: the loader would add a traceback to its message."""
        try:
            cases = self.variants[keys[0][0]].__getitems__([index for _, index in keys])
        except Exception as error:
            if get_worker_info() is None:
                raise
            return error
        return list(zip(keys, cases, strict=True))


def _stack(items: Sequence[tuple[RecordKey, Case]] | Exception) -> list[CaseBatch] | Exception:
    if isinstance(items, Exception):
        return items
    batches = []
    for _, group in groupby(items, key=lambda item: _shape(item[1])):
        keys, cases = zip(*group, strict=True)
        masks = [case.masks for case in cases if case.masks is not None]
        batches.append(
            CaseBatch(
                keys=keys,
                frames=[(case.context_frames, case.target_frames) for case in cases],
                batch=collate([case.example for case in cases]),
                masks=torch.stack(masks) if masks else None,
            )
        )
    return batches


def _shape(case: Case) -> tuple[Any, ...]:
    return case.example.context.images.shape, case.example.target.images.shape, case.masks is None
