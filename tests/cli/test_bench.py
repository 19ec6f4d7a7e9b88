import json
from functools import partial

import pytest

from wnv.cli import bench

SMALL = ["bench.dim=32", "bench.num_layers=1", "bench.num_heads=2", "bench.mlp_dim=32", "bench.image_size=[16,24]"]
SMALL += ["bench.context_sizes=[1]", "bench.training_sizes=[[1,1]]", "bench.repeats=1", "bench.training_repeats=1"]


@pytest.fixture
def run(run_in_process):
    return partial(run_in_process, bench.main)


def test_prints_a_table_and_writes_its_figures(run, tmp_path):
    out = tmp_path / "new" / "attention.json"
    code, shown, err = run("attention", f"out={out}", *SMALL)
    assert code == 0, err
    assert "| render a view from 1 encoded context views" in shown
    assert set(json.loads(out.read_text())["figures"]) == {"render_1", "train_1_1", "encoding_overhead"}


def test_help_lists_the_benchmarks(run):
    _, shown, _ = run("--help")
    assert all(name in shown for name in ("wnv-bench NAME", *bench.BENCHMARKS))
