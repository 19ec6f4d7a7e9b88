import logging
from threading import Event

import pytest

from wnv.viewer.loop import RenderLoop

WAIT_S = 60


class Recorder:
    """Records requests; blocks at the first moving image until released."""

    def __init__(self):
        self.rendered, self.errors = [], []
        self.begun, self.released, self.still = Event(), Event(), Event()

    def render(self, request, is_still, is_stale):
        self.rendered.append((request, is_still))
        if not self.begun.is_set():
            self.begun.set()
            assert self.released.wait(WAIT_S)
            assert not is_stale()  # a moving picture is finished
        if is_still:
            self.still.set()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def loop(recorder):
    loop = RenderLoop(render=recorder.render, on_error=recorder.errors.append, still_after_s=0.05)
    yield loop
    recorder.released.set()
    loop.close()


def test_the_newest_request_is_rendered_and_again_as_still(loop, recorder):
    loop.submit(0)
    assert recorder.begun.wait(WAIT_S)
    for request in range(1, 6):
        loop.submit(request)
    recorder.released.set()
    assert recorder.still.wait(WAIT_S)
    assert recorder.rendered == [(0, False), (5, False), (5, True)]
    assert not Event().wait(0.15)
    assert len(recorder.rendered) == 3  # nothing more at rest


def test_a_still_image_is_stale_after_a_newer_request():
    stale, begun, newer = [], Event(), Event()

    def render(request, is_still, is_stale):
        if is_still and request == 0:
            stale.append(is_stale())
            begun.set()
            assert newer.wait(WAIT_S)
            stale.append(is_stale())

    loop = RenderLoop(render=render, on_error=lambda error: None, still_after_s=0.0)
    loop.submit(0)
    assert begun.wait(WAIT_S)
    loop.submit(1)
    newer.set()
    loop.close()
    assert stale == [False, True]


def test_the_loop_continues_after_an_error(caplog):
    errors, rendered = [], Event()

    def render(request, is_still, is_stale):
        if request == "bad":
            raise ValueError("no such frame")
        rendered.set()

    loop = RenderLoop(render=render, on_error=errors.append, still_after_s=0.0)
    with caplog.at_level(logging.ERROR):
        loop.submit("bad")
        while not errors:
            Event().wait(0.01)
        loop.submit("good")
        assert rendered.wait(WAIT_S)
    loop.close()
    assert [str(error) for error in errors] == ["no such frame"]  # once, and not again as still
    assert "no such frame" in caplog.text


def test_closing_twice(loop, recorder):
    loop.close()
    loop.close()
    loop.submit(1)
    assert recorder.rendered == []
