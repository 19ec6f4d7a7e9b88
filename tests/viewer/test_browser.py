"""The viewer in a real browser."""

import time

import numpy as np
import pytest
from browser import CHROMIUM, start_browser, wait_for
from paint_model import PaintModel, open_synthetic
from PIL import Image

from wnv.viewer.server import Viewer
from wnv.viewer.window import WindowSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def model():
    return PaintModel()


@pytest.fixture(scope="module")
def viewer(model, tmp_path_factory):
    settings = WindowSettings(out=tmp_path_factory.mktemp("videos"))
    session = open_synthetic(model)
    session.render(session.home(1))  # starts its thread before the tests count threads
    with Viewer(session, port=0, settings=settings) as viewer:
        yield viewer


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with start_browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


@pytest.fixture
def open_page(browser, viewer):
    """Tabs that show a picture at rest; closed after the test."""
    pages = []

    def open_tab(**size):
        pages.append(browser.open(viewer.url, **size))
        wait_for(lambda: "At rest" in pages[-1].text(), what="a picture at rest")
        return pages[-1]

    yield open_tab
    for page in pages:
        page.close()
    wait_for(lambda: viewer.num_windows == 0, what="the windows to be gone")


def lower_half(page) -> np.ndarray:
    """The lower half of the view once it stops changing; notifications may cover the upper half."""
    last = page.canvas().astype(int)
    end = time.monotonic() + 100
    while time.monotonic() < end:
        time.sleep(0.3)
        shown = page.canvas().astype(int)
        # The view becomes narrower when the panel opens.
        if shown.shape == last.shape and np.abs(shown - last).max() <= 2:
            return shown[len(shown) // 2 :]
        last = shown
    raise TimeoutError("the view never came to rest")


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of two images in byte values; infinite for different sizes."""
    return float(np.abs(a.astype(int) - b).mean()) if a.shape == b.shape else np.inf


def expected_home(page, viewer) -> np.ndarray:
    """The expected `lower_half` before anything is moved."""
    _, _, width, height = page.canvas_box()
    home = viewer.session.home(1, aspect=width / height)
    image = Image.fromarray(viewer.session.render(home, is_still=True).image_u8)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))[height // 2 :]


def shown_from_home(page, viewer) -> np.ndarray:
    """`lower_half` once it is the expected one before anything is moved."""
    wait_for(lambda: difference(lower_half(page), expected_home(page, viewer)) < 4, what="the view from home")
    return lower_half(page)


def test_the_page_shows_the_view_of_its_camera_and_follows_a_drag(open_page, viewer):
    page = open_page()
    shown, expected = shown_from_home(page, viewer), expected_home(page, viewer)
    assert shown.std(axis=(0, 1)).min() > 10  # not blank
    assert difference(shown[:, ::-1], expected) > 12  # neither mirrored nor upside down
    assert difference(shown[::-1], expected) > 12

    page.drag(120, 40)
    wait_for(lambda: difference(lower_half(page), shown) > 8, what="the view to follow")
    page.click_text("Reset view")
    wait_for(lambda: difference(lower_half(page), shown) < 2, what="the previous view")
