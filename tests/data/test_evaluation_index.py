"""Evaluation indices: their frames and order, missing scenes, and broken files."""

import json
import logging

import pytest
import torch

from wnv.data.evaluation_index import IndexSampler


def write_index(folder, index):
    path = folder / "index.json"
    path.write_text(json.dumps(index))
    return path


def test_index_gives_its_frames_and_order(tmp_path, caplog, make_frames):
    entries = {
        "b": {"context": [3, 1], "target": [2]},
        "none": None,
        "a": {"context": [0, 4], "target": [3, 2, 1]},
        "also_none": None,
    }
    with caplog.at_level(logging.INFO, logger="wnv"):
        sampler = IndexSampler(path=write_index(tmp_path, entries))
    assert "2 of 4 entries are null" in caplog.text
    assert sampler.null_scenes == ("none", "also_none")
    assert sampler.select_scenes(["a", "other", "b"]) == ["b", "a"]
    choice = sampler.sample(make_frames(5, "b"), torch.Generator())
    assert (choice.context, choice.target) == ((3, 1), (2,))
    assert sampler.sample(make_frames(5, "a"), torch.Generator()).target == (3, 2, 1)


def test_a_byte_order_mark_is_accepted(tmp_path):
    path = write_index(tmp_path, {"a": {"context": [0], "target": [1]}})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(IndexSampler(path=path).choices) == ["a"]


def test_index_reports_missing_scenes(tmp_path, caplog):
    entry = {"context": [0, 2], "target": [1]}
    path = write_index(tmp_path, {"a": entry, "b": entry, "c": entry})
    with pytest.raises(ValueError, match=r"2 of 3 scenes.*: a, c; .*allow_missing=true"):
        IndexSampler(path=path).select_scenes(["b"])
    partial = IndexSampler(path=path, allow_missing=True)
    assert partial.missing_scenes(["b"]) == ["a", "c"]
    assert partial.select_scenes(["b"]) == ["b"]
    assert "not comparable" in caplog.text
    with pytest.raises(ValueError, match=r"3 of 3 scenes.*: a, b, c; .*'x'"):
        partial.select_scenes(["x"])


def test_scenes_that_do_not_fit_the_index_are_errors(tmp_path, make_frames):
    sampler = IndexSampler(path=write_index(tmp_path, {"a": {"context": [0, 9], "target": [4]}}))
    with pytest.raises(ValueError, match=r"frame 9 of 'a', which has 9 frames"):
        sampler.sample(make_frames(9, "a"), torch.Generator())
    with pytest.raises(ValueError, match="scene 'z'"):
        sampler.sample(make_frames(9, "z"), torch.Generator())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON"),
        ("[]", "list"),
        ('{"a": null}', "null"),
        ('{"a": {"context": [0, 1]}}', "'a': 'target'.*None"),
        ('{"a": {"context": [0, -1], "target": [1]}}', "'a': 'context'.*-1"),
        ('{"a": {"context": [0, 1.5], "target": [1]}}', "'a': 'context'.*1.5"),
        ('{"a": {"context": [], "target": [1]}}', "'a': 'context'"),
        ('{"a": [0, 1]}', "'a': 'context'"),
    ],
)
def test_broken_files_are_errors(tmp_path, content, message):
    path = tmp_path / "index.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        IndexSampler(path=path)


def test_index_file_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        IndexSampler(path=tmp_path / "nothing.json")
