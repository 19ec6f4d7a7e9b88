"""Scene files behind a web server: ranges only, also from forked workers."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from wnv.scenes.archive import is_url
from wnv.scenes.listing import open_scene


@pytest.fixture
def served(scene_file: Path) -> Iterator[tuple[str, list[int]]]:
    """URL of a scene file, and the number of bytes of each response."""
    data = scene_file.read_bytes()
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self) -> None:
            start, end = self.headers["Range"].removeprefix("bytes=").split("-")
            body = data[int(start) : int(end) + 1]
            sent.append(len(body))
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(body) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/room.zip", sent
    server.shutdown()
    server.server_close()
    thread.join()


def test_over_http_a_frame_is_one_range(served: tuple[str, list[int]], scene_file: Path) -> None:
    url, sent = served
    scene, local = open_scene(url), open_scene(scene_file)
    sent.clear()
    image = scene.image_u8(1)
    assert (image == local.image_u8(1)).all()
    assert len(sent) == 1
    assert sent[0] <= len(local.image_bytes(1)) + 100
    sent.clear()
    assert torch.equal(scene.views([0, 2]).images, local.views([0, 2]).images)
    assert len(sent) == 2


@pytest.mark.slow
def test_over_http_from_forked_workers(served: tuple[str, list[int]], scene_file: Path) -> None:
    scene, local = open_scene(served[0]), open_scene(scene_file)
    scene.image_u8(0)  # opens a connection, which a worker must not use
    loader = torch.utils.data.DataLoader(
        [0, 1, 2],  # type: ignore[arg-type]
        num_workers=2,
        batch_size=None,
        multiprocessing_context="fork",
        collate_fn=lambda index: scene.views([index]).images.sum(),
    )
    expected = [local.views([index]).images.sum() for index in range(3)]
    torch.testing.assert_close(torch.stack(list(loader)), torch.stack(expected))


def test_urls_are_distinguished_from_paths() -> None:
    paths = ["s3://bucket/a.zip", "simplecache::s3://bucket/a.zip", "file:///a.zip", "/data/a.zip", "a.zip"]
    assert [is_url(path) for path in paths] == [True, True, True, False, False]
