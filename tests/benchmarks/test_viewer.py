import pytest
import torch
from paint_model import PaintModel, open_synthetic

from wnv.benchmarks.viewer import run


def test_times_each_context_moving_and_at_rest():
    table = run(session=open_synthetic(PaintModel()), context_sizes=(1, 5), repeats=3, still_repeats=1)
    assert list(table.figures) == ["moving_1", "rest_1", "moving_5", "rest_5"]
    assert len(table.rows) == 4
    for figures in table.figures.values():
        parts = [figures[name] for name in ("model_ms", "waiting_ms", "sending_ms")]
        assert min(parts) > 0
        # Medians of parts and of the whole may come from different pictures.
        assert figures["images_per_s"] <= 1e3 / max(parts)
    # The window is narrower than the images: some columns are cropped.
    assert "| 28 x 24" in table.to_markdown()
    assert "| 112 x 96" in table.to_markdown()


def test_more_views_than_frames_are_an_error():
    session = open_synthetic(PaintModel())
    with pytest.raises(ValueError, match="0 to 4"):
        run(session=session, context_sizes=(6,), repeats=1, still_repeats=1)
    with pytest.raises(RuntimeError):  # the session is closed
        session._worker.submit(torch.zeros, 1)
