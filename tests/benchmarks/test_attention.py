import pytest
import torch

from wnv.benchmarks.attention import run, time_in_turns


def test_reports_every_comparison():
    table = run(
        dim=32,
        num_layers=1,
        num_heads=2,
        mlp_dim=32,
        image_size=(16, 24),
        context_sizes=(1, 3),
        training_sizes=((2, 1), (1, 2)),
        repeats=1,
        training_repeats=1,
    )
    assert list(table.figures) == ["draw_1", "draw_3", "train_2_1", "train_1_2", "encoding_overhead"]
    assert len(table.rows) == 5
    assert "6 tokens a view" in table.title


def test_timing_leaves_the_first_call_out_and_takes_turns(monkeypatch):
    clock = iter(range(0, 10_000))
    monkeypatch.setattr("wnv.benchmarks.attention.time.perf_counter", lambda: float(next(clock)))
    calls = []

    def slow():
        calls.append("slow")
        for _ in range(4):
            next(clock)

    first, second = time_in_turns(slow, lambda: calls.append("fast"), repeats=3, device=torch.device("cpu"))
    assert calls == ["slow", "fast"] * 4
    assert (first, second) == pytest.approx((5.0, 1.0))
