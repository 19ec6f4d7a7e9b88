"""Indices with missing entries, and the context and target frames of the protocols."""

import json

import pytest
import torch

from wnv.data.mixing import MixedDataModule
from wnv.data.view_sampling import HoldoutSampler
from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.protocols.protocol import choose_frames
from wnv.evaluation.protocols.views import Nested, Re10k, Re10kContext
from wnv.evaluation.table import summary_table


def frames_of(views) -> list[int]:
    """The frame numbers of views of a scene file, from their grey value."""
    return [round(float(image.mean()) * 85) for image in views.images]


def test_scenes_that_cannot_be_scored_are_listed_and_the_rest_scored(make_scenes, write_index, grey_model) -> None:
    index = write_index(
        {
            "c": ([0, 8], [2, 3, 5]),
            "gone": ([0, 8], [2, 3, 5]),
            "b": ([0, 8], [2, 3, 12]),
            "void": None,
            "a": ([1, 9], [8, 4, 2]),
            "lost": ([0, 9], [2, 3, 4]),
        }
    )
    data = make_scenes({"a": 12, "b": 12, "c": 9})
    (variant,) = Re10k(index=index).variants(data)
    listing = variant.listing
    assert (listing.num_listed, listing.num_null) == (6, 1)
    assert (listing.missing, listing.too_short) == (("gone", "lost"), ("b",))
    cases = [variant[i] for i in range(len(variant))]
    assert [case.example.scene for case in cases] == ["c", "a"]
    assert (cases[1].context_frames, cases[1].target_frames) == ((1, 9), (8, 4, 2))
    assert frames_of(cases[1].example.context) == [1, 9]
    assert frames_of(cases[1].example.target) == [8, 4, 2]
    summary = evaluate(grey_model, [variant], device=torch.device("cpu"), protocol="re10k")
    assert summary.main.is_partial
    table = summary_table(summary)
    for text in ("PARTIAL: 2 of 5", "Not in the data: 2 scenes (gone, lost", "Too short for the index: 1 scene (b"):
        assert text in table


def test_an_index_of_other_scenes_or_another_cut_is_refused(make_scenes, write_index) -> None:
    data = make_scenes({"a": 12, "b": 9})
    with pytest.raises(ValueError, match=r"1 of 1 scenes.*: x; .*'a'"):
        Re10k(index=write_index({"x": ([0, 8], [1, 2, 3])})).variants(data)
    beyond = write_index({"a": ([0, 12], [1, 2, 3]), "b": ([0, 9], [1, 2, 3])})
    with pytest.raises(ValueError, match=r"2 of 2 scenes.*frame 12 of 'a', which has 12 frames"):
        Re10k(index=beyond).variants(data)


def test_an_index_with_other_numbers_of_views_is_refused(write_index) -> None:
    index = write_index({"a": ([0, 4, 8], [1])})
    with pytest.raises(ValueError, match=r"scene 'a'.*2 context frames, got 3"):
        Re10k(index=index)
    with pytest.raises(ValueError, match="3 target frames, got 1"):
        Re10k(index=index, num_context=3)
    assert Re10k(index=index, num_context=None, num_target=None)
    folds = index.with_name("folds.json")
    folds.write_text(json.dumps([{"scene_name": "a", "fold_8_kmeans_2_input": [0, 9]}]))
    with pytest.raises(ValueError, match=r"3 target frames, got every 8-th.*num_target"):
        Re10k(index=folds)
    with pytest.raises(ValueError, match="4 context frames, got 3"):
        Re10kContext(indices={4: index})


def test_num_val_examples_limits_examples_but_not_the_listing(make_scenes, make_protocol) -> None:
    data = make_scenes({"a": 14, "b": 14, "c": 14}, num_val_examples=2)
    for name in ("default", "zoom"):
        for variant in make_protocol(name).variants(data):
            assert len(variant) == 2
            assert variant.listing.num_listed == 3


def test_short_scenes_that_are_left_out_are_counted(make_scenes, make_protocol) -> None:
    data = make_scenes({"a": 30, "b": 7}, skip_short=True)
    (variant,) = make_protocol("extrapolate").variants(data)
    assert (variant.listing.num_listed, variant.listing.num_null, len(variant)) == (2, 1, 1)
    with pytest.raises(ValueError, match=r"1 of 2 scenes .* too short.*OutsideSampler.*skip_short=true"):
        make_protocol("extrapolate").variants(make_scenes({"a": 30, "b": 7}))


def test_nested_contexts_keep_their_targets_and_an_index_of_them_too(make_scenes, make_protocol, tmp_path) -> None:
    data = make_scenes({"a": 40, "b": 33})
    protocol = make_protocol("nested", "protocol.views=[2,3,6]", "protocol.min_gap=20")
    path = tmp_path / "nested.json"
    path.write_text(json.dumps(choose_frames(protocol, data)))
    again = make_protocol("nested", "protocol.views=[2,3,6]", f"protocol.index={path}")
    for sampled, read in zip(protocol.variants(data), again.variants(data), strict=True):
        for i in range(2):
            one, other = sampled[i], read[i]
            assert (one.context_frames, one.target_frames) == (other.context_frames, other.target_frames)
            torch.testing.assert_close(one.example.target.cameras.camtoworld, other.example.target.cameras.camtoworld)
    targets = {variant[0].target_frames for variant in protocol.variants(data)}
    assert len(targets) == 1
    with pytest.raises(ValueError, match=r"views .*\[2, 1\]"):
        Nested(views=(2, 1))


@pytest.mark.parametrize("name", ["default", "video", "nested", "dynamic"])
def test_an_index_holds_the_frames_that_the_protocol_samples(make_scenes, make_protocol, name) -> None:
    settings = [] if name in ("default", "dynamic") else ["protocol.min_gap=20"]
    data = make_scenes({"a": 40, "short": 6, "b": 33}, skip_short=True)
    protocol = make_protocol(name, *settings)
    index = choose_frames(protocol, data)
    assert list(index) == ["a", "b", "short"]
    assert index["short"] is None
    variant = protocol.variants(data)[-1]
    for i, scene in enumerate(("a", "b")):
        assert index[scene]["context"] == list(variant[i].context_frames)
        assert index[scene]["target"] == list(variant[i].target_frames)
    assert choose_frames(make_protocol(name, *settings), data) == index
    assert choose_frames(protocol, make_scenes({"a": 40, "short": 6, "b": 33}, skip_short=True, val_seed=7)) != index


def test_some_protocols_make_no_index(make_scenes, make_protocol, write_index) -> None:
    data = make_scenes({"a": 40})
    with pytest.raises(ValueError, match="protocol=re10k"):
        choose_frames(make_protocol("re10k", f"protocol.index={write_index({'a': ([0, 3], [1, 2, 2])})}"), data)
    held_out = make_scenes({"a": 40}, val_sampler=HoldoutSampler(num_context=2, split="val"))
    with pytest.raises(ValueError, match=r"5 for 1 scenes .*HoldoutSampler"):
        choose_frames(make_protocol("default"), held_out)


def test_a_mixture_is_evaluated_as_a_whole_or_not_at_all(make_scenes, make_protocol, make_world) -> None:
    data = MixedDataModule(sources={"a": make_world(), "b": make_scenes({"a": 40})}, batch_size=2)
    (variant,) = make_protocol("default").variants(data)
    assert len(variant) == 3
    with pytest.raises(ValueError, match="MixedDataModule"):
        make_protocol("video").variants(data)
