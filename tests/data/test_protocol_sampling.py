"""View samplers of the protocols: allowed frames, on scenes of all lengths."""

from itertools import pairwise

import pytest

from wnv.data.protocol_sampling import (
    BetweenSampler,
    NestedSampler,
    OutsideSampler,
    SparseSampler,
    nesting_order,
)
from wnv.data.sample_order import seeded_generator
from wnv.data.view_sampling import BoundedSampler


@pytest.fixture
def choices(make_frames):
    def make(sampler, num_frames: int, count: int = 60):
        return [sampler.sample(make_frames(num_frames), seeded_generator(3, i)) for i in range(count)]

    return make


OUTSIDE = OutsideSampler(num_context=3, num_target=2, min_gap=6, max_gap=12, reach=0.5)
BETWEEN = BetweenSampler(num_context=3, min_gap=6, max_gap=12)
BOUNDED = BoundedSampler(num_context=4, num_target=3, min_gap=6, max_gap=12)
SPARSE = SparseSampler(num_context=4, num_target=3, min_gap=4, max_gap=9, min_distance=2)
ALL = [OUTSIDE, BETWEEN, BOUNDED, SPARSE, NestedSampler(whole=BOUNDED, num_context=2)]


@pytest.mark.parametrize("sampler", ALL, ids=lambda sampler: type(sampler).__name__)
def test_frames_are_distinct_inside_the_scene_and_reproducible(sampler, choices, make_frames) -> None:
    for num_frames in (sampler.min_frames, sampler.min_frames + 1, 40):
        made = choices(sampler, num_frames)
        assert made == choices(sampler, num_frames)
        for choice in made:
            frames = choice.context + choice.target
            assert len(set(frames)) == len(frames)
            assert 0 <= min(frames) <= max(frames) < num_frames
            assert list(choice.context) == sorted(choice.context)
            assert list(choice.target) == sorted(choice.target)
    with pytest.raises(ValueError, match="'room'"):
        sampler.sample(make_frames(sampler.min_frames - 1), seeded_generator(0))


def test_targets_outside_lie_within_reach_on_both_sides(choices) -> None:
    before, after = 0, 0
    for choice in choices(OUTSIDE, 40):
        first, last = choice.context[0], choice.context[-1]
        assert 6 <= last - first <= 12
        for target in choice.target:
            assert target < first or target > last
            assert max(first - target, target - last) <= (last - first) // 2
        before += min(choice.target) < first
        after += max(choice.target) > last
    assert before > 10
    assert after > 10


def test_between_takes_all_frames_but_the_contexts(choices) -> None:
    for choice in choices(BETWEEN, 40):
        assert sorted(choice.context + choice.target) == list(range(choice.context[0], choice.context[-1] + 1))
    assert {c.context[-1] - c.context[0] for c in choices(BETWEEN, 40)} == set(range(6, 13))


def test_sparse_gaps_differ_and_targets_keep_their_distance(choices) -> None:
    gaps = set()
    for choice in choices(SPARSE, 40):
        between = [b - a for a, b in pairwise(choice.context)]
        gaps |= set(between)
        assert all(4 <= gap <= 9 for gap in between)
        for target in choice.target:
            assert choice.context[0] < target < choice.context[-1]
            assert min(abs(target - given) for given in choice.context) >= 2
    assert gaps == set(range(4, 10))


def test_nested_contexts_are_parts_of_each_other_with_the_same_ends_and_targets(make_frames) -> None:
    whole = BoundedSampler(num_context=8, num_target=3, min_gap=12, max_gap=30)
    for i in range(20):
        parts = [
            NestedSampler(whole=whole, num_context=n).sample(make_frames(40), seeded_generator(1, i))
            for n in (2, 3, 5, 8)
        ]
        assert {part.target for part in parts} == {parts[0].target}
        assert {(part.context[0], part.context[-1]) for part in parts} == {parts[0].context}
        for small, large in pairwise(parts):
            assert set(small.context) < set(large.context)
        assert [len(part.context) for part in parts] == [2, 3, 5, 8]
    with pytest.raises(ValueError, match=r"'room'.*views=9"):
        NestedSampler(whole=whole, num_context=9).sample(make_frames(40), seeded_generator(1))


def test_the_nesting_order_is_the_ends_then_the_farthest() -> None:
    assert nesting_order((3, 0, 8, 4, 6)) == [0, 8, 4, 6, 3]
    assert nesting_order((5,)) == [5]


@pytest.mark.parametrize(
    ("sampler", "settings", "message"),
    [
        (BetweenSampler, {"num_context": 1, "min_gap": 3, "max_gap": 4}, "num_context must be at least 2"),
        (BetweenSampler, {"num_context": 2, "min_gap": 4, "max_gap": 3}, "min_gap=4 and max_gap=3"),
        (BetweenSampler, {"num_context": 2, "min_gap": 1, "max_gap": 3}, "min_gap=1 leaves 0"),
        (OutsideSampler, {"num_context": 2, "min_gap": 4, "max_gap": 9}, "reach=0.5 of min_gap=4 leaves 2"),
        (
            SparseSampler,
            {"num_context": 2, "num_target": 1, "min_gap": 3, "max_gap": 9, "min_distance": 2},
            "min_distance <= min_gap / 2",
        ),
        (
            SparseSampler,
            {"num_context": 2, "num_target": 4, "min_gap": 4, "max_gap": 9, "min_distance": 2},
            "min_gap=4 .*leaves 1 .*num_target=4",
        ),
    ],
)
def test_impossible_settings_are_errors(sampler, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(**settings)
