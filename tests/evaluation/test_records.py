import json
from dataclasses import replace

import pytest

from wnv.evaluation.records import RecordFile, SceneRecord, read_records

SETTINGS = {"weights": "a", "image_size": (32, 48)}


def record(index: int, variant: str = "") -> SceneRecord:
    return SceneRecord(
        index=index,
        variant=variant,
        scene=f"scene {index}",
        num_context=2,
        context_times=[0.0, 0.0],
        target_times=[0.0],
        context_frames=[3, 9],
        target_frames=[5],
        model={"psnr": [20.0 + index], "ssim": [0.5]},
        copy={"psnr": [10.0], "ssim": [0.25]},
        num_capped=0,
        encode_ms=1.0,
        render_ms=2.0,
    )


def test_records_come_back_in_the_order_of_variants_and_data(tmp_path):
    journal = RecordFile(tmp_path / "eval", settings=SETTINGS)
    journal.append([record(2, "zoom=1")])
    journal.append([record(0, "zoom=1"), record(1, "zoom=3"), record(0, "zoom=3")])
    expected = [record(0, "zoom=1"), record(2, "zoom=1"), record(0, "zoom=3"), record(1, "zoom=3")]
    assert read_records(tmp_path / "eval") == expected


def test_a_line_that_was_cut_off_is_dropped_and_the_rest_goes_on(tmp_path):
    RecordFile(tmp_path, settings=SETTINGS).append([record(0), record(1)])
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    journal = RecordFile(tmp_path, settings=SETTINGS, resume=True)
    assert journal.records == {("", 0): record(0)}
    journal.append([record(1)])
    assert read_records(tmp_path) == [record(0), record(1)]


def test_a_line_that_is_broken_in_the_middle_is_refused(tmp_path):
    RecordFile(tmp_path, settings=SETTINGS).append([record(0), record(1)])
    path = tmp_path / "records.jsonl"
    path.write_text(path.read_text().replace('"scene"', '"place"', 1))
    with pytest.raises(ValueError, match=r"records.jsonl, line 1 is not a record.*overwrite=true"):
        RecordFile(tmp_path, settings=SETTINGS, resume=True)


def test_an_evaluation_is_never_replaced_unasked(tmp_path):
    RecordFile(tmp_path, settings=SETTINGS).append([record(0)])
    with pytest.raises(FileExistsError, match=r"resume=true .* overwrite=true"):
        RecordFile(tmp_path, settings=SETTINGS)
    assert read_records(tmp_path) == [record(0)]
    assert RecordFile(tmp_path, settings=SETTINGS, overwrite=True).records == {}


def test_records_of_other_settings_are_not_continued(tmp_path):
    RecordFile(tmp_path, settings=SETTINGS).append([record(0)])
    with pytest.raises(ValueError, match="weights was 'a', is 'b'"):
        RecordFile(tmp_path, settings={**SETTINGS, "weights": "b"}, resume=True)
    (tmp_path / "evaluation.json").unlink()
    with pytest.raises(ValueError, match=r"evaluation\.json"):
        RecordFile(tmp_path, settings=SETTINGS, resume=True)


def test_a_number_json_does_not_have_is_not_written(tmp_path):
    journal = RecordFile(tmp_path, settings=SETTINGS)
    with pytest.raises(ValueError, match="Out of range float"):
        journal.append([replace(record(0), render_ms=float("inf"))])
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"weights": "a", "image_size": [32, 48]}


def test_processes_write_files_of_their_own_which_become_one(tmp_path):
    first = RecordFile(tmp_path, settings=SETTINGS)
    second = RecordFile(tmp_path, settings=SETTINGS, rank=1, opens=False)
    first.append([record(0)])
    second.append([record(1)])
    assert read_records(tmp_path) == [record(0), record(1)], "of a resumed evaluation"
    second.append([record(3)])
    assert first.merge() == [record(0), record(1), record(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "records.jsonl"]


def test_what_killed_processes_left_is_resumed_by_another_number_of_them(tmp_path):
    RecordFile(tmp_path, settings=SETTINGS).append([record(0)])
    for rank in (1, 2):
        RecordFile(tmp_path, settings=SETTINGS, rank=rank, opens=False).append([record(rank), record(2 + rank)])
    path = tmp_path / "records.rank2.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    assert list(RecordFile(tmp_path, settings=SETTINGS, resume=True).records) == [("", i) for i in (0, 1, 2, 3)]
    assert not list(tmp_path.glob("records.rank*"))
    RecordFile(tmp_path, settings=SETTINGS, rank=1, opens=False).append([record(4)])
    assert RecordFile(tmp_path, settings=SETTINGS, overwrite=True).records == {}
    assert read_records(tmp_path) == []


def test_scores_are_means_over_the_views_that_have_one():
    masked = replace(record(0), model={"psnr": [10.0, 20.0], "psnr_masked": [None, 30.0], "ssim_masked": [None, None]})
    assert masked.mean("model", "psnr") == 15.0
    assert masked.mean("model", "psnr_masked") == 30.0
    assert masked.mean("model", "ssim_masked") is None
    assert masked.mean("model", "lpips") is None


def test_records_of_before_there_were_variants_are_read(tmp_path):
    RecordFile(tmp_path, settings=SETTINGS).append([record(0)])
    path = tmp_path / "records.jsonl"
    values = json.loads(path.read_text())
    for name in ("variant", "context_frames", "target_frames"):
        del values[name]
    path.write_text(json.dumps(values) + "\n")
    assert read_records(tmp_path) == [replace(record(0), context_frames=None, target_frames=None)]
