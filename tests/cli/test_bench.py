import json
import sys

import pytest

from wnv.cli import bench

SMALL = [
    "bench.dim=32",
    "bench.num_layers=1",
    "bench.num_heads=2",
    "bench.mlp_dim=32",
    "bench.image_size=[16,24]",
    "bench.context_sizes=[1]",
    "bench.training_sizes=[[1,1]]",
    "bench.repeats=1",
    "bench.training_repeats=1",
]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["wnv-bench", *arguments])
    bench.main()


def test_prints_a_table_and_writes_its_figures(monkeypatch, capsys, tmp_path):
    out = tmp_path / "new" / "attention.json"
    run(monkeypatch, "attention", f"out={out}", *SMALL)
    assert "| render a view from 1 encoded context views" in capsys.readouterr().out
    assert set(json.loads(out.read_text())["figures"]) == {"render_1", "train_1_1", "encoding_overhead"}


@pytest.mark.parametrize("name", ["attention", "encodings"])
def test_an_unknown_device_is_an_error(monkeypatch, capsys, name):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, name, "bench.device=abacus")
    assert stop.value.code == 2
    assert "abacus" in capsys.readouterr().err


def test_figures_are_not_overwritten(monkeypatch, capsys, tmp_path):
    out = tmp_path / "attention.json"
    out.write_text("mine")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "attention", f"out={out}", *SMALL)
    assert stop.value.code == 2
    assert str(out) in capsys.readouterr().err
    assert out.read_text() == "mine"


@pytest.mark.parametrize("arguments", [(), ("speed",)])
def test_a_name_is_needed(monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments)
    assert stop.value.code == 2
    assert "attention, encodings, ingest, loader, startup, viewer" in capsys.readouterr().err


def test_help_lists_the_benchmarks(monkeypatch, capsys):
    run(monkeypatch, "--help")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("wnv-bench NAME", *bench.BENCHMARKS))
