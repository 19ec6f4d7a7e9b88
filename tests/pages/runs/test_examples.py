"""The examples that are shown, with their images and videos."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wnv.evaluation.images import write_png
from wnv.pages.runs.examples import embed_image, extremes, shared_examples
from wnv.pages.runs.run_folders import find_runs

SCORES = {"a": 20.0, "b": 25.0, "c": 15.0, "d": 30.0, "e": 21.0}


def evaluation(folders, name="eval", scores=SCORES, **options):
    folders.evaluation(name, scores, weights=name, **options)
    return find_runs([name]).runs[0].evaluations[0]


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        (range(5), [("worst", "c", 1), ("median", "e", 3), ("best", "d", 5)]),
        ([0, 1, 3], [("lowest shown", "a", 2), ("between", "b", 4), ("best", "d", 5)]),
        ([0, 1], [("lowest shown", "a", 2), ("highest shown", "b", 4)]),
        ([4], [("median", "e", 3)]),
    ],
)
def test_the_worst_the_median_and_the_best_or_the_nearest_with_an_image(folders, pictures, expected):
    found = extremes(evaluation(folders, pictures=pictures), "")
    assert [(example.role, example.record.scene, example.rank) for example in found] == expected
    assert all(example.count == 5 for example in found)


def test_shared_examples_are_spread_over_the_data(folders):
    one = evaluation(folders, "one", pictures=[0, 1, 2, 4])
    other = evaluation(folders, "other", {scene: 40 - psnr for scene, psnr in SCORES.items()}, pictures=[0, 1, 3, 4])
    cases = shared_examples([one, other], "", count=3)
    assert [[example.record.scene for example in examples] for examples in cases] == [
        ["a", "a"],
        ["b", "b"],
        ["e", "e"],
    ]
    assert [[example.rank for example in examples] for examples in cases] == [[2, 4], [4, 2], [3, 3]]
    assert len(shared_examples([one, other], "", count=1)) == 1
    assert shared_examples([one, evaluation(folders, "third")], "", count=3) == []


def test_the_pictures_are_those_of_the_variant(folders):
    found = evaluation(folders, scores={"zoom=1": SCORES, "zoom=3": SCORES}, pictures=[2])
    (one,), (three,) = extremes(found, "zoom=1"), extremes(found, "zoom=3")
    jpegs = [base64.b64decode(example.image().split(",")[1]) for example in (one, three)]
    pixels = [Image.open(io.BytesIO(jpeg)).getpixel((5, 5)) for jpeg in jpegs]
    assert pixels[0] == pytest.approx((40, 0, 90), abs=4)
    assert pixels[1] == pytest.approx((40, 100, 90), abs=4)


def test_a_video_that_is_too_large_is_left_out(folders):
    small = extremes(evaluation(folders, "small", pictures=[0], film_bytes=100), "")[0]
    large = extremes(evaluation(folders, "large", pictures=[0], film_bytes=2_000_001), "")[0]
    assert small.video() == "data:video/mp4;base64," + base64.b64encode(bytes(100)).decode()
    assert large.video() is None
    assert large.video_file == Path("large/pictures/000000-all.mp4")


def test_wide_pictures_are_made_smaller_and_broken_ones_left_out(folders):
    write_png(Path("wide.png"), np.zeros((100, 2880, 3), np.uint8))
    data = base64.b64decode(embed_image(Path("wide.png")).removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (1440, 50)
    whole = Path("wide.png").read_bytes()
    for broken in (b"no", b"", whole[:30], whole[: len(whole) // 2]):
        Path("broken.png").write_bytes(broken)
        assert embed_image(Path("broken.png")) is None
