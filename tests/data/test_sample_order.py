"""The order of samples: one global stream, the same for any number of processes, workers and restarts."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wnv.data.sample_order import EvaluationOrder, SampleOrder, seeded_generator


def stream(count, num_scenes, **options):
    return list(itertools.islice(SampleOrder(num_scenes, **options), count))


@given(num_scenes=st.integers(1, 20), seed=st.integers(0, 5), epochs=st.integers(1, 4))
def test_each_epoch_visits_every_scene_once(num_scenes, seed, epochs):
    keys = stream(num_scenes * epochs, num_scenes, seed=seed)
    for epoch in range(epochs):
        part = keys[epoch * num_scenes : (epoch + 1) * num_scenes]
        assert {e for e, _ in part} == {epoch}
        assert sorted(i for _, i in part) == list(range(num_scenes))


@given(
    num_scenes=st.none() | st.integers(1, 11),
    world_size=st.integers(1, 5),
    start=st.integers(0, 50),
    rounds=st.integers(1, 12),
)
def test_ranks_together_read_the_stream_from_any_position(num_scenes, world_size, start, rounds):
    whole = stream(start + rounds * world_size, num_scenes, seed=3)
    shares = [
        stream(rounds, num_scenes, seed=3, rank=rank, world_size=world_size, start=start) for rank in range(world_size)
    ]
    together = [key for round_of_keys in zip(*shares, strict=True) for key in round_of_keys]
    assert together == whole[start:]


def test_epochs_and_seeds_have_different_permutations():
    keys = stream(200, 100, seed=0)
    assert [i for _, i in keys[:100]] != [i for _, i in keys[100:]]
    assert stream(100, 100, seed=0) != stream(100, 100, seed=1)


def test_endless_data_never_repeats_a_key():
    assert stream(4, None, seed=9, start=10) == [(0, 10), (0, 11), (0, 12), (0, 13)]


@given(num_scenes=st.integers(0, 30), world_size=st.integers(1, 6))
def test_evaluation_shares_are_disjoint_and_complete(num_scenes, world_size):
    orders = [EvaluationOrder(num_scenes, rank=rank, world_size=world_size) for rank in range(world_size)]
    keys = [key for order in orders for key in order]
    assert sorted(keys) == list(range(num_scenes))
    assert [len(order) for order in orders] == [len(list(order)) for order in orders]


def test_order_has_no_length():
    with pytest.raises(TypeError):
        len(SampleOrder(3, seed=0))


def test_seeded_generator_depends_on_every_number():
    numbers = {
        parts: torch.rand(4, generator=seeded_generator(*parts)) for parts in [(0, 1, 2), (0, 2, 1), (1, 1, 2), (0, 12)]
    }
    for a, b in itertools.combinations(numbers.values(), 2):
        assert not torch.equal(a, b)
    assert torch.equal(numbers[0, 1, 2], torch.rand(4, generator=seeded_generator(0, 1, 2)))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: SampleOrder(0, seed=0), "num_scenes"),
        (lambda: SampleOrder(3, seed=0, rank=2, world_size=2), "rank"),
        (lambda: SampleOrder(3, seed=0, start=-1), "start"),
        (lambda: EvaluationOrder(-1), "num_scenes"),
        (lambda: EvaluationOrder(3, rank=-1), "rank"),
    ],
)
def test_values_out_of_range_are_errors(make, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        make()
