import json
import math

import numpy as np
import pytest

from wnv.evaluation.records import SceneRecord
from wnv.evaluation.summary import summarize


def record(index: int, model_db: list[float], copy_db: list[float]) -> SceneRecord:
    return SceneRecord(
        index=index,
        scene=f"scene {index}",
        num_context=2,
        context_times=[0.0, 0.0],
        target_times=[0.0] * len(model_db),
        model={"psnr": model_db, "ssim": [value / 100 for value in model_db]},
        copy={"psnr": copy_db, "ssim": [value / 100 for value in copy_db]},
        num_capped=0,
        encode_ms=10.0 * index,
        render_ms=2.0,
    )


RECORDS = [record(0, [20.0, 30.0], [10.0, 12.0]), record(1, [12.0], [15.0]), record(2, [28.0], [10.0])]


def test_each_scene_counts_the_same_and_the_interval_is_over_scenes():
    summary = summarize(RECORDS)
    scenes = np.array([25.0, 12.0, 28.0])
    copies = np.array([11.0, 15.0, 10.0])
    assert summary.model["psnr"].mean == pytest.approx(scenes.mean())
    assert summary.model["psnr"].half_width == pytest.approx(1.959964 * scenes.std(ddof=1) / math.sqrt(3))
    assert summary.difference["psnr"].mean == pytest.approx((scenes - copies).mean())
    assert summary.difference["psnr"].half_width == pytest.approx(
        1.959964 * (scenes - copies).std(ddof=1) / math.sqrt(3)
    )
    assert (summary.num_scenes, summary.num_views, summary.num_ahead) == (3, 4, 2)
    assert summary.encode_ms == 10.0


def test_the_table_is_aligned_and_says_everything():
    table = summarize(RECORDS, provenance={"device": "cpu: test"}).table(name="KoNet")
    lines = table.splitlines()
    assert len({len(line) for line in lines[:5]}) == 1
    assert "21.67 ± 9.62" in lines[2]
    assert lines[3].startswith("nearest context view")
    assert "+9.67" in lines[4]
    assert "3 scenes, 4 target views; KoNet is ahead in 2 of 3." in table
    assert "cpu: test" in table


def test_one_scene_has_no_interval_and_the_summary_is_json():
    summary = summarize(RECORDS[:1], settings={"weights": "a"})
    assert summary.model["psnr"].half_width is None
    assert "±" not in summary.table()
    values = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert values["model"]["psnr"] == {"mean": 25.0, "half_width": None}
    assert "normal approximation" in values["interval"]


def test_no_scene_is_an_error():
    with pytest.raises(ValueError, match="data set is empty"):
        summarize([])
