"""View samplers: bounds, disjointness, determinism, and errors that name what to change."""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wnv.data.view_sampling import BoundedSampler, HoldoutSampler, SceneFrames, TrajectorySampler


def circle_scene(num_frames, scene_id="circle"):
    """Cameras around a circle, looking along its tangent."""
    angle = torch.arange(num_frames, dtype=torch.float64) * (2 * math.pi / num_frames)
    pose = torch.eye(4, dtype=torch.float64).repeat(num_frames, 1, 1)
    pose[:, 0, 0] = pose[:, 2, 2] = angle.cos()
    pose[:, 0, 2], pose[:, 2, 0] = angle.sin(), -angle.sin()
    pose[:, 0, 3], pose[:, 2, 3] = 5 * angle.cos(), -5 * angle.sin()
    return SceneFrames(
        scene_id=scene_id,
        num_frames=num_frames,
        times_s=torch.arange(num_frames, dtype=torch.float64) / 30,
        camtoworld=pose,
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def bounded_cases(draw):
    num_context, num_target = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    shared = draw(st.booleans())
    least = max(num_context - 1, num_target - 1 + (0 if shared else num_context), 1)
    min_gap = draw(st.integers(least, least + 10))
    max_gap = draw(st.integers(min_gap, min_gap + 30))
    num_frames = draw(st.integers(min_gap + 1, min_gap + 50))
    sampler = BoundedSampler(
        num_context=num_context,
        num_target=num_target,
        min_gap=min_gap,
        max_gap=max_gap,
        extrapolate=draw(st.sampled_from([0.0, 0.25, 1.0])),
        allow_context_as_target=shared,
    )
    return sampler, num_frames, draw(st.integers(0, 1000))


@settings(max_examples=40)
@given(bounded_cases())
def test_bounded_stays_in_its_bounds(case):
    sampler, num_frames, seed = case
    choice = sampler.sample(circle_scene(num_frames), generator(seed))
    assert choice == sampler.sample(circle_scene(num_frames), generator(seed))
    context, target = choice.context, choice.target
    assert len(set(context)) == len(context) == sampler.num_context
    assert len(set(target)) == len(target) == sampler.num_target
    assert min(context + target) >= 0
    assert max(context + target) < num_frames
    if not sampler.allow_context_as_target:
        assert not set(context) & set(target)
    if sampler.num_context > 1:
        gap = context[-1] - context[0]
        assert sampler.min_gap <= gap <= sampler.max_gap
        assert list(context) == sorted(context)
        beyond = int(sampler.extrapolate * gap)
        assert all(context[0] - beyond <= frame <= context[-1] + beyond for frame in target)
        steps = [b - a for a, b in itertools.pairwise(context)]
        assert max(steps) - min(steps) <= 1 + (sampler.num_context > 2)


def test_bounded_reaches_both_ends_every_gap_and_beyond():
    sampler = BoundedSampler(num_context=2, num_target=1, min_gap=2, max_gap=4, extrapolate=0.5)
    scene, source = circle_scene(9), generator()
    choices = [sampler.sample(scene, source) for _ in range(500)]
    assert {c.context[1] - c.context[0] for c in choices} == {2, 3, 4}
    assert {c.context[0] for c in choices} == set(range(7))
    assert any(c.target[0] < c.context[0] for c in choices)
    assert any(c.target[0] > c.context[1] for c in choices)


def test_bounded_cuts_the_largest_gap_to_a_short_scene():
    sampler = BoundedSampler(num_context=2, num_target=2, min_gap=3, max_gap=192)
    assert sampler.sample(circle_scene(4), generator()).context == (0, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_context": 0}, "num_context.*0"),
        ({"num_target": 0}, "num_target.*0"),
        ({"min_gap": 0}, "min_gap=0"),
        ({"min_gap": 11}, "min_gap=11"),
        ({"extrapolate": -0.1}, "extrapolate.*-0.1"),
        ({"num_context": 6}, "num_context.* 5 .*min_gap=4"),
        ({"num_target": 4}, "min_gap=4.*num_target=4"),
    ],
)
def test_impossible_bounded_settings_are_errors(changes, message):
    valid = {"num_context": 2, "num_target": 2, "min_gap": 4, "max_gap": 10}
    with pytest.raises(ValueError, match=message):
        BoundedSampler(**valid | changes)


@given(num_frames=st.integers(1, 40), num_context=st.integers(1, 8))
def test_trajectory_renders_every_frame_from_evenly_spread_contexts(num_frames, num_context):
    sampler = TrajectorySampler(num_context=num_context)
    if num_frames < num_context:
        with pytest.raises(ValueError, match=f"{num_frames} frames; lower num_context"):
            sampler.sample(circle_scene(num_frames), generator())
        return
    choice = sampler.sample(circle_scene(num_frames), generator())
    assert choice.target == tuple(range(num_frames))
    assert len(set(choice.context)) == num_context
    if num_context > 1:
        assert (choice.context[0], choice.context[-1]) == (0, num_frames - 1)


@settings(max_examples=15)
@given(
    num_frames=st.integers(6, 30),
    every=st.integers(2, 9),
    num_context=st.integers(1, 3),
    num_target=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_held_out_frames_are_never_in_training(num_frames, every, num_context, num_target, seed):
    scene = circle_scene(num_frames)
    held_out = set(range(0, num_frames, every))
    assume(num_frames - len(held_out) >= num_context + num_target)
    train = HoldoutSampler(split="train", num_context=num_context, num_target=num_target, every=every)
    assert train.num_samples(num_frames) == num_frames - len(held_out)
    first_targets = []
    for index in range(train.num_samples(num_frames)):
        choice = train.sample(scene, generator(seed), index=index)
        assert choice == train.sample(scene, generator(seed), index=index)
        frames = choice.context + choice.target
        assert len(set(frames)) == len(frames) == num_context + num_target
        assert not set(frames) & held_out
        first_targets.append(choice.target[0])
    assert set(first_targets) == set(range(num_frames)) - held_out

    val = HoldoutSampler(split="val", num_context=num_context, every=every)
    choices = [val.sample(scene, generator(seed), index=index) for index in range(val.num_samples(num_frames))]
    assert [choice.target for choice in choices] == [(frame,) for frame in sorted(held_out)]
    assert not held_out & {frame for choice in choices for frame in choice.context}


def test_holdout_takes_the_nearest_cameras():
    scene = circle_scene(24)
    val = HoldoutSampler(split="val", num_context=2, every=8)
    assert [set(val.sample(scene, generator(), index=index).context) for index in range(3)] == [
        {23, 1},
        {7, 9},
        {15, 17},
    ]
    train = HoldoutSampler(split="train", num_context=2, num_target=2, every=8, num_neighbours=4)
    source = generator()
    for index in range(train.num_samples(24)):
        choice = train.sample(scene, source, index=index)
        first = choice.target[0]
        away = [min((frame - first) % 24, (first - frame) % 24) for frame in choice.context + choice.target[1:]]
        assert max(away) <= 3


@pytest.mark.parametrize(("every", "num_views"), [(2, 1), (2, 9), (3, 3), (8, 7), (8, 8)])
def test_min_frames_of_holdout_is_exact(every, num_views):
    train = HoldoutSampler(split="train", num_context=1, num_target=num_views, every=every, num_neighbours=9)
    val = HoldoutSampler(split="val", num_context=num_views + 1, every=every)
    for sampler in (train, val):
        sampler.sample(circle_scene(sampler.min_frames), generator())
        held_out = -(-(sampler.min_frames - 1) // every)
        assert sampler.min_frames - 1 - held_out == num_views


def test_holdout_works_where_all_cameras_share_a_place(make_frames):
    choice = HoldoutSampler(split="val", num_context=2, every=5).sample(make_frames(10), generator(), index=1)
    assert choice.context == (1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 1}, "every.*1"),
        ({"split": "val", "num_target": 2}, "num_target.*2"),
        ({"num_target": 4, "num_neighbours": 4}, r"num_neighbours.*5.*4"),
    ],
)
def test_impossible_holdout_settings_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        HoldoutSampler(**{"split": "train", "num_context": 2} | changes)


@pytest.mark.parametrize(
    "sampler",
    [
        BoundedSampler(num_context=2, num_target=1, min_gap=25, max_gap=192),
        TrajectorySampler(num_context=26),
        HoldoutSampler(split="train", num_context=2, num_target=11, every=2, num_neighbours=12),
    ],
)
def test_a_scene_that_is_too_short_is_named_with_the_setting_to_lower(sampler):
    assert sampler.min_frames == 26
    sampler.sample(circle_scene(26), generator())
    with pytest.raises(ValueError, match=r"26 frames.*'kitchen'.*25 frames; lower (min_gap|num_context)"):
        sampler.sample(circle_scene(25, "kitchen"), generator())
