import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from wnv.benchmarks.hotpath import Counts, count_step
from wnv.models.konet import KoNet


def count(*, is_compiled: bool, **sizes) -> Counts:
    small = partial(KoNet, dim=32, num_layers=3, num_heads=2, mlp_dim=64)
    defaults = {"batch_size": 2, "image_size": (16, 24), "num_context": 2, "num_target": 3}
    return count_step(small, is_compiled=is_compiled, **{**defaults, **sizes})


@pytest.mark.slow
def test_counts_grow_with_what_is_counted():
    once, twice = count(is_compiled=False), count(is_compiled=False, batch_size=4)
    assert once.kernels == twice.kernels > 100
    assert once.graphs == 0
    assert 1.4 < twice.bytes / once.bytes < 2  # weights move once
    assert twice.saved_bytes == pytest.approx(2 * once.saved_bytes, rel=0.2)  # tables of a size do not grow


@pytest.mark.slow
def test_a_compiled_step_moves_starts_and_saves_no_more_than_this(tmp_path: Path):
    """In another process, because the type checks of tests cannot be compiled."""
    overrides = [
        "~bench.models.konet_tiny",
        "bench.models.konet_large.activation_checkpointing=false",
        "out=counts.json",
    ]
    command = [sys.executable, "-m", "wnv.cli.bench", "hotpath", *overrides]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    figures = json.loads((tmp_path / "counts.json").read_text())["figures"]
    for name, gigabytes, kernels, saved in (("konet", 100, 850, 11), ("konet_large", 400, 2800, 45)):
        counts = figures[f"{name}, compile=blocks"]
        assert counts["graphs"] <= 3
        assert counts["bytes"] <= gigabytes * 1e9
        assert counts["kernels"] <= kernels
        assert counts["saved_bytes"] <= saved * 1e9
