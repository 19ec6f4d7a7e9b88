"""Evaluation indices: their frames and order, missing scenes, and broken files."""

import json
import logging

import pytest
import torch

from wnv.data.evaluation_index import IndexSampler
from wnv.scenes.schema import safe_id


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
    assert sampler.select_scenes({"a": 5, "other": 5, "b": 5}) == ["b", "a"]
    choice = sampler.sample(make_frames(5, "b"), torch.Generator())
    assert (choice.context, choice.target) == ((3, 1), (2,))
    assert sampler.sample(make_frames(5, "a"), torch.Generator()).target == (3, 2, 1)


def test_a_byte_order_mark_is_accepted(tmp_path):
    path = write_index(tmp_path, {"a": {"context": [0], "target": [1]}})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(IndexSampler(path=path).choices) == ["a"]


def test_missing_and_short_scenes_are_errors_or_left_out(tmp_path, caplog):
    entry = {"context": [0, 9], "target": [1]}
    path = write_index(tmp_path, {"a": entry, "b": entry, "c": entry})
    strict, partial = IndexSampler(path=path), IndexSampler(path=path, allow_missing=True)
    with pytest.raises(ValueError, match=r"2 of 3 scenes.*: a, c; .*allow_missing=true"):
        strict.select_scenes({"b": 10})
    with pytest.raises(ValueError, match=r"1 of 3 scenes.*too short.*frame 9 of 'b', which has 9 frames"):
        strict.select_scenes({"a": 10, "b": 9, "c": 10})
    assert partial.missing_scenes({"b": 9, "c": 10}) == (["a"], ["b"])
    assert partial.select_scenes({"b": 9, "c": 10}) == ["c"]
    assert caplog.text.count("not comparable") == 2
    with pytest.raises(ValueError, match=r"3 of 3 scenes.*: a, b, c; .*'x'"):
        partial.select_scenes({"x": 10})
    with pytest.raises(ValueError, match=r"2 of 3 scenes.*too short.*frame 9 of 'b'"):
        partial.select_scenes({"b": 9, "c": 3})


def test_a_scene_without_its_frames_or_entry_is_an_error(tmp_path, make_frames):
    sampler = IndexSampler(path=write_index(tmp_path, {"a": {"context": [0, 9], "target": [4]}}))
    with pytest.raises(ValueError, match=r"frame 9 of 'a', which has 9 frames"):
        sampler.sample(make_frames(9, "a"), torch.Generator())
    with pytest.raises(ValueError, match="scene 'z'"):
        sampler.sample(make_frames(9, "z"), torch.Generator())


@pytest.mark.parametrize(
    ("name", "scene"),
    [("2K/b5f", "b5f"), ("dl3dv_b5f", "b5f"), ("b5f", "dl3dv_b5f"), ("2K/b5f", safe_id("2K/b5f")), ("b5f", "b5f")],
)
def test_names_with_folder_or_data_set_are_those_of_the_scene(tmp_path, make_frames, name, scene):
    entry = {"context": [0, 2], "target": [1], "overlap": "small"}
    for index in ({name: entry}, [{"scene_name": name, **entry}]):
        sampler = IndexSampler(path=write_index(tmp_path, index), allow_missing=True)
        assert sampler.select_scenes({"other": 9, scene: 9}) == [scene]
        assert sampler.missing_scenes({"other": 9, scene: 9}) == ([], [])
        assert sampler.sample(make_frames(9, scene), torch.Generator()).context == (0, 2)


def test_inputs_of_a_list_have_every_eighth_frame_as_target(tmp_path, make_frames):
    index = [{"scene_name": "a", "fold_8_kmeans_2_input": [3, 20], "fold_8_kmeans_3_input": [3, 9, 20]}]
    path = write_index(tmp_path, index)
    sampler = IndexSampler(path=path, num_context=3)
    assert sampler.select_scenes({"a": 21}) == ["a"]
    choice = sampler.sample(make_frames(21, "a"), torch.Generator())
    assert (choice.context, choice.target) == ((3, 9, 20), (0, 8, 16))
    assert sampler.missing_scenes({"a": 20}) == ([], ["a"])
    with pytest.raises(ValueError, match=r"'a'.*fold_8_kmeans_2_input.*num_context.*got None"):
        IndexSampler(path=path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON"),
        ("3", "int"),
        ("[[0, 1]]", "entry 0.*scene_name"),
        ('[{"key": "a"}, {"key": "a"}]', "2 entries of 1 scenes"),
        ('{"1K/a": null, "2K/a": null, "b": {"context": [0], "target": [1]}}', "twice: '1K/a' and '2K/a'"),
        ('{"a": null}', "null"),
        ('{"a": {"context": [0, 1]}}', "'a': 'target'.*None"),
        ('{"a": {"context": [0, -1], "target": [1]}}', "'a': 'context'.*-1"),
        ('{"a": {"context": [0, 1.5], "target": [1]}}', "'a': 'context'.*1.5"),
        ('{"a": {"context": [], "target": [1]}}', "'a': 'context'"),
        ('{"a": [0, 1]}', "'a'.*object"),
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
