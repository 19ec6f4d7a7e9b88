import pytest

from wnv.benchmarks.loader import run

SMALL = {
    "num_scenes": 1,
    "num_frames": 6,
    "stored_size": (48, 64),
    "image_size": (16, 24),
    "num_views": 3,
    "num_examples": 2,
    "num_clip_examples": 2,
    "repeats": 1,
}


def test_every_case_is_measured_and_compared_with_the_bare_loop():
    table = run(**SMALL)
    assert "3 views of 16 x 24 from JPEGs of 48 x 64" in table.title
    names = [row[0] for row in table.rows]
    assert names[0] == "bare loop: decode to arrays"
    assert table.rows[0][-1] == "100 %"
    for what in ("and resized", "zoom 1, first visit", "zoom 1, again", "zoom 1 to 3, again", "clips, pyav, zoom 1"):
        assert sum(what in name for name in names) == 1
    assert list(table.figures) == names
    assert all(speed > 0 for speed in table.figures.values())


def test_too_few_frames_are_an_error():
    with pytest.raises(ValueError, match=r"num_views.*6"):
        run(**SMALL | {"num_views": 6})
