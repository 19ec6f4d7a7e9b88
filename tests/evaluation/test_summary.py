import json
import math

import numpy as np
import pytest
from scipy import stats

from wnv.evaluation.confidence import student_t_95
from wnv.evaluation.records import SceneRecord
from wnv.evaluation.summary import Listing, read_summary, summarize
from wnv.evaluation.table import summary_table


def record(index: int, model_db: list[float], copy_db: list[float], variant: str = "") -> SceneRecord:
    return SceneRecord(
        index=index,
        variant=variant,
        scene=f"scene {index}",
        num_context=2,
        context_times=[0.0, 0.0],
        target_times=[0.0] * len(model_db),
        model={"psnr": model_db, "ssim": [value / 100 for value in model_db]},
        copy={"psnr": copy_db, "ssim": [value / 100 for value in copy_db]},
        num_capped=0,
        encode_ms=10.0 * index,
        render_ms=2.0 + index,
    )


RECORDS = [
    record(0, [20.0, 30.0], [10.0, 12.0]),
    record(1, [12.0], [15.0]),
    record(2, [28.0], [10.0]),
    record(3, [14.0], [11.0]),
    record(4, [21.0], [20.0]),
]
ZOOMED = [record(1, [11.0], [9.0], "zoom=3"), record(2, [24.0], [9.0], "zoom=3"), record(7, [9.0], [9.0], "zoom=3")]


def test_each_scene_counts_the_same_and_the_interval_is_over_scenes():
    summary = summarize(RECORDS).main
    scenes = np.array([25.0, 12.0, 28.0, 14.0, 21.0])
    copies = np.array([11.0, 15.0, 10.0, 11.0, 20.0])
    assert summary.model["psnr"].mean == pytest.approx(scenes.mean())
    half_width = stats.t.ppf(0.975, 4) * scenes.std(ddof=1) / math.sqrt(5)
    assert summary.model["psnr"].half_width == pytest.approx(half_width, rel=1.5e-3)
    assert summary.difference["psnr"].mean == pytest.approx((scenes - copies).mean())
    assert summary.difference["psnr"].half_width == pytest.approx(
        stats.t.ppf(0.975, 4) * (scenes - copies).std(ddof=1) / math.sqrt(5), rel=1.5e-3
    )
    assert (summary.num_scenes, summary.num_views, summary.num_ahead) == (5, 6, 4)
    assert summary.encode_ms == 20.0
    assert summary.views_per_s == pytest.approx(1000 * 6 / (2 * 2.0 + 3.0 + 4.0 + 5.0 + 6.0))
    assert (summary.num_listed, summary.num_null, summary.missing, summary.is_partial) == (5, 0, [], False)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 31, 6473])
def test_few_scenes_make_a_wide_interval(freedom):
    assert student_t_95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1.5e-3 if freedom < 5 else 1e-4)


def test_variants_are_compared_with_the_reference_on_the_examples_that_both_have():
    plain = [record(r.index, list(r.model["psnr"]), list(r.copy["psnr"]), "zoom=1") for r in RECORDS]
    summary = summarize(plain + ZOOMED, protocol="zoom", reference="zoom=1")
    one, three = summary.variants
    assert (one.variant, three.variant) == ("zoom=1", "zoom=3")
    assert summary.main is one
    assert one.change is None
    assert three.change["psnr"].mean == pytest.approx((-1 - 4) / 2)
    assert (three.change["psnr"].half_width, three.change["psnr"].count) == (None, 2)
    assert three.num_examples == 3


def test_a_metric_counts_where_it_was_measured_and_is_nowhere_else():
    records = [*RECORDS[:3], record(3, [1.0], [1.0])]
    records[3].model["psnr_masked"], records[3].copy["psnr_masked"] = [7.0], [6.0]
    records[2].model["psnr_masked"], records[2].copy["psnr_masked"] = [None], [None]
    summary = summarize(records).main
    assert summary.model["psnr_masked"].mean == 7.0
    assert summary.difference["psnr_masked"].mean == 1.0
    assert summary.model["psnr_masked"].half_width is None
    assert "lpips" not in summary.model


def test_a_summary_comes_back_from_its_folder(tmp_path):
    records = [record(r.index, list(r.model["psnr"]), list(r.copy["psnr"]), "zoom=1") for r in RECORDS] + ZOOMED
    summary = summarize(
        records,
        protocol="zoom",
        reference="zoom=1",
        lpips_backbone="vgg",
        peak_memory={"bytes": 5, "of": "test"},
        listings={"zoom=1": Listing(num_listed=9, num_null=2, missing=("x", "y", "z", "w"))},
        settings={"weights": "a"},
        environment={"device": "cpu"},
    )
    summary.write(tmp_path)
    assert read_summary(tmp_path) == summary
    assert (summary.num_listed, summary.num_null, summary.missing) == (9, 2, ["x", "y", "z", "w"])
    assert summary.main.is_partial
    assert "Student's t over examples" in (tmp_path / "summary.json").read_text()


def test_a_folder_without_a_summary_or_with_another_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"summary.json"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match=r"summary.json .*variants"):
        read_summary(tmp_path)


def test_old_summaries_are_read(tmp_path):
    path = summarize(RECORDS[:2], environment={"device": "cpu"}).write(tmp_path)
    old = json.loads(path.read_text().replace('"environment"', '"provenance"'))
    del old["too_short"], old["variants"][0]["too_short"], old["variants"][0]["model"]["psnr"]["count"]
    old["variants"][0]["model"]["psnr"]["half_width"] = 60.0
    path.write_text(json.dumps(old))
    read = read_summary(tmp_path)
    assert read.environment == {"device": "cpu"}
    assert (read.main.model["psnr"].half_width, read.main.model["psnr"].count) == (None, 2)


def test_few_scenes_have_no_interval_and_no_scene_is_an_error():
    few = summarize(RECORDS[:4])
    assert few.main.model["psnr"].text(2) == "19.75 (n=4)"
    assert "±" not in summary_table(few)
    assert "n=4: too few examples for an interval" in summary_table(few)
    assert "n=" not in summary_table(summarize(RECORDS))
    with pytest.raises(ValueError, match="data set is empty"):
        summarize([])
