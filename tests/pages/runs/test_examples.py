"""The examples that are shown, with their images and videos."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wnv.evaluation.contact_sheet import Cell, contact_sheet
from wnv.evaluation.images import write_png
from wnv.pages.runs.examples import embed_image, extremes, shared_examples
from wnv.pages.runs.run_folders import find_runs

SCORES = {"a": 20.0, "b": 25.0, "c": 15.0, "d": 30.0, "e": 21.0}


def decode(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


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
    ((_, first),), ((_, second),) = one.images(), three.images()
    pixels = [decode(url).getpixel((5, 5)) for url in (first, second)]
    assert pixels[0] == pytest.approx((40, 0, 90), abs=4)
    assert pixels[1] == pytest.approx((40, 100, 90), abs=4)


def test_the_parts_of_a_picture_are_found(folders):
    (example,) = extremes(evaluation(folders, pictures=[0], scores={"a": 20.0}), "")
    grays = [0.1, 0.2, 0.5, 0.6, 0.8, 0.9]
    sheet = contact_sheet([[Cell(torch.full((3, 24, 40), gray), "caption") for gray in grays]], row_titles=["a"])
    write_png(example.image_file, sheet, overwrite=True)
    parts = example.images()
    assert [role for role, _ in parts] == ["context", "context", "target", "rendered", "nearest", "error"]
    for (_, url), gray in zip(parts, grays, strict=True):
        image = decode(url)
        assert image.getpixel((image.width - 3, image.height - 3))[0] == pytest.approx(255 * gray, abs=2)
        assert image.getpixel((3, image.height - 3))[0] == pytest.approx(255 * gray, abs=2)


def test_a_video_that_is_too_large_is_left_out(folders):
    small = extremes(evaluation(folders, "small", pictures=[0], film_bytes=100), "")[0]
    large = extremes(evaluation(folders, "large", pictures=[0], film_bytes=2_000_001), "")[0]
    assert small.video() == "data:video/mp4;base64," + base64.b64encode(bytes(100)).decode()
    assert large.video() is None
    assert large.video_file == Path("large/pictures/000000-all.mp4")


def test_wide_pictures_are_made_smaller_and_broken_ones_left_out(folders):
    write_png(Path("wide.png"), np.zeros((100, 2880, 3), np.uint8))
    assert decode(embed_image(Path("wide.png"))).size == (1440, 50)
    whole = Path("wide.png").read_bytes()
    for broken in (b"no", b"", whole[:30], whole[: len(whole) // 2]):
        Path("broken.png").write_bytes(broken)
        assert embed_image(Path("broken.png")) is None
