"""Evaluate with a progress bar."""

import sys
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.ranks import Ranks
from wnv.evaluation.records import RECORDS_FILE, SceneRecord, read_records
from wnv.evaluation.rendering import SceneModel
from wnv.evaluation.summary import Summary
from wnv.types import Example


def evaluate_with_progress(
    model: SceneModel,
    examples: Dataset[Example] | Sequence[Variant],
    *,
    device: torch.device,
    out: Path,
    ranks: Ranks | None = None,
    resume: bool = False,
    **options: Any,
) -> Summary:
    """Call `evaluate` with a progress bar on stderr, in rank 0."""
    ranks = ranks or Ranks()
    total = sum(map(len, examples)) if isinstance(examples, list) else len(cast(Sized, examples))
    num_done = len(read_records(out)) if resume and (out / RECORDS_FILE).exists() else 0
    bar: tqdm | None = None

    def show(record: SceneRecord) -> None:
        nonlocal bar
        if bar is None:  # created with the first record, so that an error before it is a single line
            wide = sys.stderr.isatty()
            bar = tqdm(total=total, initial=num_done, desc="evaluate", unit="example", dynamic_ncols=wide)
        bar.set_postfix_str(
            f"{record.mean('model', 'psnr'):.2f} dB, copy {record.mean('copy', 'psnr'):.2f} dB", refresh=False
        )
        bar.update(min(ranks.world_size, total - bar.n))  # assumes that the other ranks are as far

    try:
        return evaluate(
            model,
            examples,
            device=device,
            out=out,
            ranks=ranks,
            resume=resume,
            on_record=show if ranks.rank == 0 else None,
            **options,
        )
    finally:
        if bar is not None:
            bar.close()
