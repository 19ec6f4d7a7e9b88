"""Cases in batches, loaded beside the drawing: the same batches whoever draws them and how often it is stopped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from wnv.evaluation.protocols.case import Case, Variant
from wnv.types import Batch, collate

CaseKey = tuple[int, int]
"""(number of the variant, number of the case)."""


@dataclass(frozen=True)
class CaseBatch:
    """Cases of one variant that are drawn together.

    Attributes:
        keys: Which they are.
        cases: What they consist of besides tensors that are stacked.
        batch: Their examples, stacked.
        masks: Their masks, stacked; None where they have none.
    """

    keys: tuple[CaseKey, ...]
    cases: tuple[tuple[tuple[int, ...] | None, tuple[int, ...] | None], ...]
    batch: Batch
    masks: Tensor | None

    def to(self, device: torch.device) -> "CaseBatch":
        """All tensors on a device."""
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        return CaseBatch(self.keys, self.cases, self.batch.to(device, non_blocking=True), masks)

    def pin_memory(self) -> "CaseBatch":
        """Copy to page-locked memory."""
        masks = None if self.masks is None else self.masks.pin_memory()
        return CaseBatch(self.keys, self.cases, self.batch.pin_memory(), masks)


def plan_batches(variants: Sequence[Variant], *, batch_size: int) -> list[list[CaseKey]]:
    """All cases of all variants in batches, which depend on nothing but these and the batch size.

    What is drawn together shares kernels, and so the last digit of a score. So batches are not formed anew when some
    cases are done, or when several processes share the work: each batch is somebody's as a whole.

    Raises:
        ValueError: If the batch size is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    return [
        [(number, index) for index in range(start, min(start + batch_size, len(variant.cases)))]
        for number, variant in enumerate(variants)
        for start in range(0, len(variant.cases), batch_size)
    ]


def load_batches(
    variants: Sequence[Variant], plan: Sequence[list[CaseKey]], *, num_workers: int, pin_memory: bool
) -> Iterator[CaseBatch]:
    """The planned batches in order. Cases that cannot be stacked, because their numbers of views differ, come apart.

    Args:
        variants: What the plan refers to.
        plan: Batches of keys.
        num_workers: Processes that load ahead while others are drawn; 0 loads in this one.
        pin_memory: Whether batches are put into page-locked memory.
    """
    loader = DataLoader(
        _Keyed(variants),
        batch_sampler=list(plan),
        num_workers=min(num_workers, len(plan)),
        collate_fn=_stack,
        pin_memory=pin_memory,
        multiprocessing_context="spawn" if num_workers and plan else None,  # a forked copy of a running model may hang
        # The loader draws a seed for its workers; from its own generator, it leaves the global one as it is.
        generator=torch.Generator().manual_seed(0),
    )
    for batches in loader:
        if isinstance(batches, Exception):
            raise batches
        yield from batches


class _Keyed(Dataset[tuple[CaseKey, Case]]):
    """The cases of several variants by keys, so that one set of worker processes serves all of them."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self.cases = [variant.cases for variant in variants]

    def __getitem__(self, key: CaseKey) -> tuple[CaseKey, Case]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[CaseKey]) -> list[tuple[CaseKey, Case]] | Exception:
        """The cases of one batch, all of one variant."""
        try:
            cases = self.cases[keys[0][0]].__getitems__([index for _, index in keys])
        except Exception as error:
            if get_worker_info() is None:
                raise
            return error  # as a value: the loader would write a traceback into its message
        return list(zip(keys, cases, strict=True))


def _stack(items: Sequence[tuple[CaseKey, Case]] | Exception) -> list[CaseBatch] | Exception:
    if isinstance(items, Exception):
        return items
    batches = []
    for _, group in groupby(items, key=lambda item: _shape(item[1])):
        keys, cases = zip(*group, strict=True)
        masks = [case.masks for case in cases if case.masks is not None]
        batches.append(
            CaseBatch(
                keys=keys,
                cases=tuple((case.context_frames, case.target_frames) for case in cases),
                batch=collate([case.example for case in cases]),
                masks=torch.stack(masks) if masks else None,
            )
        )
    return batches


def _shape(case: Case) -> tuple[Any, ...]:
    views = (case.example.context, case.example.target)
    return (*(tuple(view.images.shape) for view in views), case.masks is None)
