import numpy as np
import pytest

from wnv.ingest.clip.bars import Bars, find_bars

PICTURE = (slice(20, 100), slice(10, 150))


def images(*, bar: int = 2, picture: int = 120, number: int = 4) -> list[np.ndarray]:
    """Noise between black bars of 20 rows and 10 columns."""
    random = np.random.default_rng(0)
    made = np.full((number, 120, 160, 3), bar, np.uint8)
    for image in made:
        image[PICTURE] = random.integers(0, 2 * picture + 1, image[PICTURE].shape)
    return list(made)


def test_bars_are_found_with_a_margin_and_cropped_to_even_sides():
    bars = find_bars(images())
    assert bars == Bars(top=22, bottom=22, left=12, right=12)
    cropped = bars.crop(images()[0])
    assert cropped.shape == (76, 136, 3)
    assert cropped[-1].mean() > 60
    assert not find_bars([image[PICTURE] for image in images()])


def test_subtitles_in_a_bar_do_not_hide_it():
    made = images()
    made[1][106:114, 60:90] = 255
    assert find_bars(made).bottom == 22


@pytest.mark.parametrize("image", [{"bar": 40}, {"picture": 8}])
def test_dark_scenes_have_no_bars(image):
    assert not find_bars(images(**image))


def test_a_border_that_is_black_in_some_images_only_is_kept():
    made = images()
    made[2][:20] = 90
    assert find_bars(made).top == 0
    assert not find_bars([np.zeros((40, 40, 3), np.uint8)])
