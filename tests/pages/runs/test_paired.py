"""Two evaluations are compared example by example."""

import numpy as np
import pytest
from scipy import stats

from wnv.pages.runs.paired import compare
from wnv.pages.runs.run_folders import find_runs


def records(folders, name, scores, **options):
    folders.evaluation(name, scores, weights=name, **options)
    return find_runs([name]).runs[0].evaluations[0].records


def test_the_difference_is_that_of_pairs(folders):
    one, other = np.random.default_rng(0).normal(20, 3, (2, 30))
    scenes = [f"s{i}" for i in range(30)]
    found = compare(
        records(folders, "one", dict(zip(scenes, one.tolist(), strict=True))),
        records(folders, "other", dict(zip(scenes, other.tolist(), strict=True))),
    )
    gap = other - one
    assert found.difference.mean == pytest.approx(gap.mean())
    assert found.difference.half_width == pytest.approx(stats.t.ppf(0.975, 29) * gap.std(ddof=1) / np.sqrt(30))
    assert found.num_higher == (gap > 0).sum()
    assert [pair.gain for pair in found.pairs] == pytest.approx(sorted(gap))


def test_only_examples_that_both_scored_count(folders):
    one = records(folders, "one", {"a": 20.0, "b": 21.0, "c": 22.0})
    other = records(folders, "other", {"a": 21.0, "x": 25.0, "c": 22.5})
    found = compare(one, other)
    assert [(pair.scene, pair.first, pair.second) for pair in found.pairs] == [("c", 22.0, 22.5), ("a", 20.0, 21.0)]
    assert found.num_higher == 2
    assert not found.is_significant  # two pairs are too few
    assert compare(one, records(folders, "third", {"y": 1.0})) is None
    single = compare(one[:1], other)
    assert (single.difference.mean, single.difference.half_width) == (1.0, None)
