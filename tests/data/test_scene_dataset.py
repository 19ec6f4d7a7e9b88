"""Examples from scene files: the right frames, exact cameras, one choice per key."""

import json
import pickle
import re
import zipfile
from dataclasses import replace

import pytest
import torch

from wnv.data.evaluation_index import IndexSampler
from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import BoundedSampler, HoldoutSampler, TrajectorySampler
from wnv.geometry.poses import fit_world_frame, is_rigid
from wnv.scenes.index import build_index
from wnv.scenes.listing import open_scene
from wnv.scenes.scene_file import SceneFile
from wnv.types import collate

BOUNDED = BoundedSampler(num_context=2, num_target=3, min_gap=5, max_gap=9)


@pytest.fixture
def folder(tmp_path, write_tiny_scene):
    for scene, count in (("a", 12), ("b", 8), ("c", 10)):
        write_tiny_scene(tmp_path, scene, num_frames=count)
    build_index(tmp_path)
    return tmp_path


def frame_numbers(views):
    """The frames of the views, from their grey value."""
    return [round(float(image.mean()) * 25.5) for image in views.images]


def assert_same_views(a, b):
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.cameras.K, b.cameras.K)
    assert torch.equal(a.cameras.camtoworld, b.cameras.camtoworld)
    assert torch.equal(a.times, b.times)


def test_examples_have_the_asked_size_and_collate(folder):
    dataset = SceneDataset(root=folder, sampler=BOUNDED, image_size=(8, 20))
    assert len(dataset) == 3
    assert dataset.scene_ids == ("a", "b", "c")
    batch = collate([dataset[(0, index)] for index in range(3)])
    assert batch.scenes == ("a", "b", "c")
    assert batch.context.images.shape == (3, 2, 3, 8, 20)
    assert batch.target.images.shape == (3, 3, 3, 8, 20)
    assert (batch.target.cameras.height, batch.target.cameras.width) == (8, 20)
    assert {t.dtype for t in (batch.context.images, batch.target.cameras.K, batch.target.cameras.camtoworld)} == {
        torch.float32
    }
    assert not batch.context.times.any()
    assert not batch.target.times.any()
    assert is_rigid(batch.target.cameras.camtoworld).all()


def test_a_folder_without_index_is_read_scene_by_scene(folder, write_tiny_scene):
    (folder / "index.jsonl").unlink()
    assert SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24)).scene_ids == ("a", "b", "c")
    write_tiny_scene(folder / "more", "a")
    with pytest.raises(ValueError, match="two scene files have the id 'a'"):
        SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24))


def test_root_may_be_a_url(folder):
    for root, count in ((folder.as_uri(), 3), ((folder / "b.zip").as_uri(), 1)):
        dataset = SceneDataset(root=root, sampler=BOUNDED, image_size=(16, 24))
        assert len(dataset) == count
        assert len(dataset[count - 1].target.times) == 3


def test_an_example_depends_on_its_key_alone_and_an_index_means_epoch_zero(folder):
    dataset = SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24), zoom_range=(1.0, 2.0), seed=5)
    again = pickle.loads(pickle.dumps(dataset))
    for key in [(0, 0), (3, 1), (7, 2)]:
        assert_same_views(dataset[key].context, again[key].context)
        assert_same_views(dataset[key].target, again[key].target)
    assert_same_views(dataset[1].target, dataset[(0, 1)].target)
    other = SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24), seed=6)
    choices, others = ([made.pick((epoch, 0)).choice for epoch in range(20)] for made in (dataset, other))
    assert len(set(choices)) > 5
    assert choices != others


def test_an_evaluation_index_chooses_scenes_and_frames(folder, tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(
        json.dumps({"c": {"context": [9, 0], "target": [4, 2]}, "b": None, "a": {"context": [1, 11], "target": [5, 5]}})
    )
    dataset = SceneDataset(root=folder, sampler=IndexSampler(path=path), image_size=(16, 24))
    assert dataset.scene_ids == ("c", "a")
    assert frame_numbers(dataset[0].context) == [9, 0]
    assert frame_numbers(dataset[0].target) == [4, 2]
    assert frame_numbers(dataset[1].target) == [5, 5]


@pytest.mark.parametrize("method", ["mean", "first"])
def test_cameras_are_exact_far_from_the_origin(tmp_path, write_tiny_scene, method):
    path = write_tiny_scene(tmp_path, "far", num_frames=9, offset=4000.0)
    dataset = SceneDataset(
        root=path, sampler=TrajectorySampler(num_context=2), image_size=(16, 24), pose_normalization=method
    )
    example = dataset[0]
    assert frame_numbers(example.target) == list(range(9))
    stored = open_scene(path).cameras(range(9), dtype=torch.float64)
    frame = fit_world_frame(stored.camtoworld[[0, 8]], method=method)
    torch.testing.assert_close(example.target.cameras.camtoworld, frame.apply(stored.camtoworld).float())
    torch.testing.assert_close(example.target.cameras.K, stored.K.float())
    assert example.context.cameras.camtoworld[..., :3, 3].abs().max() < 2


def test_one_zoom_per_example_is_within_its_range_and_in_K(folder):
    dataset = SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24), zoom_range=(1.5, 3.0))
    zooms = []
    for epoch in range(20):
        example = dataset[(epoch, 0)]
        numbers = frame_numbers(example.context) + frame_numbers(example.target)
        views = zip(numbers, torch.cat([example.context.cameras.K, example.target.cameras.K]), strict=True)
        factors = torch.tensor([[float(K[0, 0]) / (20 + n), float(K[1, 1]) / (21 + n)] for n, K in views])
        torch.testing.assert_close(factors, factors[0, 0].expand_as(factors))
        zooms.append(float(factors[0, 0]))
    assert min(zooms) >= 1.5 - 1e-5
    assert max(zooms) <= 3.0 + 1e-5
    assert max(zooms) / min(zooms) > 1.7


def test_times_of_a_dynamic_scene_span_the_sampled_window(tmp_path, write_tiny_scene):
    path = write_tiny_scene(tmp_path, "moving", kind="dynamic")
    dataset = SceneDataset(root=path, sampler=BOUNDED, image_size=(16, 24))
    for epoch in range(3):
        example = dataset[(epoch, 0)]
        first, last = frame_numbers(example.context)
        assert example.context.times.tolist() == [0, 1]
        expected = [(n - first) / (last - first) for n in frame_numbers(example.target)]
        torch.testing.assert_close(example.target.times, torch.tensor(expected))
    beyond = SceneDataset(root=path, sampler=replace(BOUNDED, extrapolate=0.5), image_size=(16, 24))
    examples = [beyond[(epoch, 0)] for epoch in range(8)]
    assert all(example.context.times.tolist() == [0, 1] for example in examples)
    assert min(example.target.times.min() for example in examples) < 0
    still = write_tiny_scene(tmp_path, "still", num_frames=1, kind="dynamic")
    example = SceneDataset(root=still, sampler=TrajectorySampler(num_context=1), image_size=(16, 24))[0]
    assert example.context.times.tolist() == example.target.times.tolist() == [0]


def test_holdout_visits_each_frame_of_its_split_once_per_epoch(tmp_path, write_tiny_scene):
    path = write_tiny_scene(tmp_path, "one", num_frames=12)
    settings = {"num_context": 2, "every": 4}
    val = SceneDataset(root=path, sampler=HoldoutSampler(split="val", **settings), image_size=(16, 24))
    assert [frame_numbers(val[index].target) for index in range(len(val))] == [[0], [4], [8]]
    train = SceneDataset(
        root=path, sampler=HoldoutSampler(split="train", num_target=2, **settings), image_size=(16, 24), repeat=2
    )
    assert len(train) == 18
    firsts = [frame_numbers(train[(1, index)].target)[0] for index in range(18)]
    assert firsts == [n for n in range(12) if n % 4 for _ in range(2)]


def test_repeats_are_different_samples(folder):
    dataset = SceneDataset(root=folder / "a.zip", sampler=BOUNDED, image_size=(16, 24), repeat=20)
    assert len({dataset.pick(index).choice for index in range(20)}) > 5


def test_cached_frames_are_decoded_once_and_are_the_same(folder, monkeypatch):
    settings = {"root": folder, "sampler": BOUNDED, "image_size": (8, 12)}
    plain, cached, full = (SceneDataset(**settings, cache_frames=count) for count in (0, 30, 7))
    keys = [(epoch, index) for epoch in range(8) for index in range(3)]
    expected = [plain[key] for key in keys]
    for key, example in zip(keys, expected, strict=True):
        assert_same_views(cached[key].target, example.target)
        assert_same_views(full[key].target, example.target)
    monkeypatch.setattr(SceneFile, "images_u8", None)
    for key, example in zip(keys, expected, strict=True):
        assert_same_views(cached[key].context, example.context)


def test_a_broken_scene_is_named_and_not_skipped(folder):
    path = folder / "b.zip"
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    scene = json.loads(contents["scene.json"])
    scene["frames"][3]["camtoworld"][0][3] = float("nan")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, json.dumps(scene) if name == "scene.json" else content)
    dataset = SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24))
    dataset[0]
    with pytest.raises(ValueError, match="b"):
        dataset[1]


@pytest.mark.parametrize(
    "sampler",
    [
        BoundedSampler(num_context=2, num_target=1, min_gap=9, max_gap=20),
        HoldoutSampler(split="train", num_context=4, num_target=4, num_neighbours=9, every=8),
    ],
)
def test_scenes_too_short_are_errors_or_left_out(folder, caplog, sampler):
    settings = {"root": folder, "image_size": (16, 24), "sampler": sampler}
    found = f"1 of 3 scenes.* {type(sampler).__name__} needs 10 frames.*'b' has 8 frames"
    with pytest.raises(ValueError, match=f"{found}.*skip_short=true"):
        SceneDataset(**settings)
    dataset = SceneDataset(**settings, skip_short=True)
    assert dataset.scene_ids == ("a", "c")
    assert re.search(found, caplog.text)
    assert {dataset[index].scene for index in range(len(dataset))} == {"a", "c"}
    with pytest.raises(ValueError, match="3 of 3 scenes"):
        SceneDataset(**settings | {"sampler": replace(BOUNDED, min_gap=12, max_gap=12)}, skip_short=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (16,)}, r"image_size.*\[16\]"),
        *(({"zoom_range": value}, r"zoom_range must be") for value in ([0.5, 1], [3, 1], [1])),
        ({"repeat": 0}, "repeat.*0"),
        ({"cache_frames": -1}, "cache_frames.*-1"),
        ({"cache_frames": 9, "zoom_range": (1, 2)}, "cache_frames.*9.*zoom_range"),
    ],
)
def test_values_out_of_range_are_errors(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        SceneDataset(**{"root": folder, "sampler": BOUNDED, "image_size": (16, 24)} | changes)


def test_a_missing_root_and_a_missing_example_are_errors(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SceneDataset(root=tmp_path / "nowhere", sampler=BOUNDED, image_size=(16, 24))
    with pytest.raises(IndexError, match=r"0\.\.2, got 3"):
        SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24))[3]


def test_cameras_are_changed_before_they_are_normalised(folder):
    def shift(camtoworld, context):
        assert len(context) == 2
        moved = camtoworld.clone()
        moved[:, :3, 3] = 3 * moved[:, :3, 3] + 1e6
        return moved

    plain = SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24))
    moved = SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24), change_cameras=shift)
    for one, other in ((plain[0].context, moved[0].context), (plain[0].target, moved[0].target)):
        assert torch.equal(one.images, other.images)
        torch.testing.assert_close(one.cameras.camtoworld, other.cameras.camtoworld, rtol=0, atol=1e-6)
    seen = []
    SceneDataset(root=folder, sampler=BOUNDED, image_size=(16, 24), change_cameras=lambda c, _: seen.append(c) or c)[1]
    pick = plain.pick(1)
    torch.testing.assert_close(seen[0], pick.frames.camtoworld[list(pick.choice.context + pick.choice.target)])
