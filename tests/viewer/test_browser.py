"""The viewer in a real browser."""

import threading
import time

import numpy as np
import pytest
import torch
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
    session.render(session.home(1))  # its thread is there before the tests count threads
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
    """The lower half of the view once it does not change any more; above it the browser may tell something."""
    last = page.canvas().astype(int)
    end = time.monotonic() + 100
    while time.monotonic() < end:
        time.sleep(0.3)
        shown = page.canvas().astype(int)
        # The view becomes narrower when the panel comes.
        if shown.shape == last.shape and np.abs(shown - last).max() <= 2:
            return shown[len(shown) // 2 :]
        last = shown
    raise TimeoutError("the view never came to rest")


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Of two pictures, in byte values; endless where the view has another size by now."""
    return float(np.abs(a.astype(int) - b).mean()) if a.shape == b.shape else np.inf


def drawn_from_home(page, viewer) -> np.ndarray:
    """What `lower_half` must show where nothing has been moved."""
    _, _, width, height = page.canvas_box()
    home = viewer.session.home(1, aspect=width / height)
    drawn = Image.fromarray(viewer.session.render(home, is_still=True).image_u8)
    return np.asarray(drawn.resize((width, height), Image.Resampling.BICUBIC))[height // 2 :]


def shown_from_home(page, viewer) -> np.ndarray:
    """`lower_half` once it is what it must be where nothing has been moved."""
    wait_for(lambda: difference(lower_half(page), drawn_from_home(page, viewer)) < 4, what="the view from home")
    return lower_half(page)


def test_the_page_shows_what_its_camera_sees_and_a_drag_changes_it(open_page, viewer):
    page = open_page()
    shown, expected = shown_from_home(page, viewer), drawn_from_home(page, viewer)
    assert shown.std(axis=(0, 1)).min() > 10  # not blank
    assert difference(shown[:, ::-1], expected) > 12  # a mirrored or turned one would be told apart
    assert difference(shown[::-1], expected) > 12

    page.drag(120, 40)
    wait_for(lambda: difference(lower_half(page), shown) > 8, what="the view to follow")
    page.click_text("Reset view")
    wait_for(lambda: difference(lower_half(page), shown) < 2, what="the view of before")


def test_two_windows_at_once(open_page, viewer):
    one = open_page()
    two = open_page(width=700, height=800)
    assert viewer.num_windows == 2
    shown = shown_from_home(one, viewer)
    two.click_text("Next ▶")
    wait_for(lambda: "synthetic:2" in two.text(), what="the next scene")
    two.drag(-90, 20)
    assert "synthetic:1" in one.text()
    assert difference(lower_half(one), shown) < 1
    one.drag(60, 0)
    wait_for(lambda: difference(lower_half(one), shown) > 5, what="the first window to follow")


def test_a_tab_that_crashes_while_its_picture_is_drawn(open_page, viewer, browser, model, monkeypatch):
    stayer = open_page()
    shown = shown_from_home(stayer, viewer)
    goer = browser.open(viewer.url)
    wait_for(lambda: "At rest" in goer.text(), what="a picture at rest")
    drawing, go_on = threading.Event(), threading.Event()
    render = model.render

    def slow(*arguments: object) -> torch.Tensor:
        drawing.set()
        assert go_on.wait(200)
        return render(*arguments)

    monkeypatch.setattr(model, "render", slow)
    goer.drag(50, 0, steps=2)
    assert drawing.wait(100)
    goer.crash()
    wait_for(lambda: viewer.num_windows == 1, what="the window to be gone")
    go_on.set()
    stayer.drag(100, 30)
    wait_for(lambda: difference(lower_half(stayer), shown) > 8, what="the other window to follow")
    open_page(width=500, height=400)  # and whoever comes is let in
