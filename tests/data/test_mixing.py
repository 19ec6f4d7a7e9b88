"""Mixed data sets: exact shares, every scene once, and the same stream for any number of processes and restarts."""

import itertools
from collections import Counter

import pytest

from wnv.data.mixing import MixedDataModule, MixedOrder
from wnv.data.sample_order import SampleOrder
from wnv.data.scene_datamodule import SceneDataModule
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.data.view_sampling import BoundedSampler

SAMPLER = BoundedSampler(num_context=2, num_target=1, min_gap=3, max_gap=9)


def make_order(*, counts=(3, 5, 2), sizes=(4, 7, None), **settings):
    sources = [SampleOrder(size, seed=11 + index) for index, size in enumerate(sizes)]
    return MixedOrder(sources, counts=counts, seed=3, **settings)


def take(order, count):
    return list(itertools.islice(order, count))


def test_shares_are_exact_in_every_block():
    keys = take(make_order(), 500)
    orders = set()
    for start in range(0, 500, 10):
        block = [source for source, _ in keys[start : start + 10]]
        assert Counter(block) == {0: 3, 1: 5, 2: 2}
        orders.add(tuple(block))
    assert len(orders) > 40, "every block has a new order"


def test_each_source_goes_through_its_own_order():
    keys = take(make_order(), 700)
    for source, size in enumerate((4, 7, None)):
        own = [key for number, key in keys if number == source]
        assert own == take(SampleOrder(size, seed=11 + source), len(own))
        if size is not None:
            for epoch in range(len(own) // size):
                assert sorted(own[epoch * size : (epoch + 1) * size]) == [(epoch, index) for index in range(size)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_the_stream_is_the_same_for_any_number_of_processes_and_restarts(world_size):
    whole = take(make_order(), 240)
    shares = [take(make_order(rank=rank, world_size=world_size), 240 // world_size) for rank in range(world_size)]
    assert [key for row in zip(*shares, strict=True) for key in row] == whole
    for start in (1, 17, 100, 239):
        assert take(make_order(start=start), 240 - start) == whole[start:]


@pytest.fixture
def make_mix(tmp_path, write_tiny_scene):
    for part, names in (("one/train", "abc"), ("one/val", "xy"), ("two/train", "defgh"), ("two/val", "z")):
        for name in names:
            write_tiny_scene(tmp_path / part, name)

    def scenes(part, **changes):
        settings = {"root": tmp_path / part, "split": "train", "val_split": "val", "sampler": SAMPLER}
        settings |= {"val_sampler": SAMPLER, "image_size": (8, 12), "batch_size": 1}
        return SceneDataModule(**settings | changes)

    def synthetic(**changes):
        settings = {"image_size": (8, 12), "num_context": 2, "num_target": 1, "batch_size": 1, "num_val_scenes": 2}
        return SyntheticDataModule(**settings | changes)

    def make(*, one=None, two=None, **changes):
        sources = {"one": scenes("one", **one or {}), "two": scenes("two", **two or {}), "world": synthetic()}
        settings = {"sources": sources, "weights": {"one": 1, "two": 3, "world": 0}, "batch_size": 4, "block_size": 8}
        return MixedDataModule(**settings | changes)

    return make


def scenes_of(mix, num_batches):
    return [name for batch in itertools.islice(mix.train_dataloader(), num_batches) for name in batch.scenes]


def test_batches_hold_scenes_of_all_sources_by_their_weights(make_mix):
    mix = make_mix(weights={"one": 1, "two": 3, "world": 1}, block_size=10)
    assert mix.counts == {"one": 2, "two": 6, "world": 2}
    assert mix.num_train_scenes is None
    batches = list(itertools.islice(mix.train_dataloader(), 5))
    assert batches[0].context.images.shape == (4, 2, 3, 8, 12)
    names = [name for batch in batches for name in batch.scenes]
    assert sum(name in "abc" for name in names) == 4
    assert sum(name in "defgh" for name in names) == 12


def test_a_resumed_mix_continues_where_it_stopped(make_mix):
    whole = scenes_of(make_mix(), 9)
    first = make_mix()
    assert scenes_of(first, 5) == whole[:20]
    first.advance(20)
    state = first.state_dict()
    assert state["samples_consumed"] == 20
    second = make_mix()
    second.load_state_dict(state)
    assert scenes_of(second, 4) == whole[20:]
    for change in ({"weights": {"one": 1, "two": 1, "world": 0}}, {"seed": 5}, {"one": {"seed": 7}}):
        with pytest.raises(ValueError, match="allow_changed_order"):
            make_mix(**change).load_state_dict(state)
    changed = make_mix(weights={"one": 1, "two": 1, "world": 0}, allow_changed_order=True)
    changed.load_state_dict(state)
    assert changed.samples_consumed == 20


def test_validation_goes_through_the_examples_of_all_sources(make_mix):
    mix = make_mix(one={"num_val_examples": 1}, val_batch_size=2)
    assert mix.num_val_scenes == 4
    names = [name for batch in mix.val_dataloader() for name in batch.scenes]
    assert names[:2] == ["x", "z"]
    assert len(names) == 4  # weights are of training alone
    assert mix.num_train_scenes == 8
    assert mix.val_dataset[1].scene == "z"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"two": {"image_size": (8, 16)}}, r"image_size.*\[8, 12\].*\[8, 16\]"),
        ({"image_size": (8, 8)}, r"image_size.*\[8, 8\]"),
        ({"weights": {"one": 1}}, "weights must name"),
        ({"weights": {"one": -1, "two": 2, "world": 1}}, "weights must be 0 or more"),
        ({"weights": {"one": 0, "two": 0, "world": 0}}, "weights must be 0 or more"),
        ({"weights": {"one": 0.01, "two": 1, "world": 1}}, r"weight.*one.*block_size=8"),
        ({"sources": {}}, "sources must name"),
    ],
)
def test_sources_that_do_not_fit_together_are_errors(make_mix, changes, message):
    with pytest.raises(ValueError, match=message):
        make_mix(**changes)


def test_sources_with_other_numbers_of_views_are_errors(make_mix):
    mix = make_mix(two={"sampler": BoundedSampler(num_context=2, num_target=2, min_gap=3, max_gap=9)})
    with pytest.raises(ValueError, match="number of target views"):
        scenes_of(mix, 3)


def test_counts_add_up_to_the_block(make_mix):
    for shares in ((1, 1, 1), (0.05, 0.9, 0.31), (7, 2, 5)):
        mix = make_mix(weights=dict(zip(("one", "two", "world"), shares, strict=True)), block_size=100)
        assert sum(mix.counts.values()) == 100
        for count, share in zip(mix.counts.values(), shares, strict=True):
            assert abs(count - 100 * share / sum(shares)) < 1
