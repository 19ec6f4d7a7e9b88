"""The viewer and its windows, without a browser."""

import io
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from raw_client import RawClient

from wnv.evaluation.images import enlarge, to_u8
from wnv.evaluation.path_file import parse_path
from wnv.viewer.loop import RenderLoop
from wnv.viewer.panel import Panel
from wnv.viewer.server import Viewer
from wnv.viewer.window import WindowSettings


@pytest.fixture
def start(tmp_path):
    """Starts viewers on free ports; closed after the test."""
    viewers = []

    def open_viewer(session, **settings) -> Viewer:
        settings = WindowSettings(out=tmp_path / "videos", **{"still_after_s": 0.05, **settings})
        viewers.append(Viewer(session, port=0, settings=settings))
        return viewers[-1]

    yield open_viewer
    for viewer in viewers:
        viewer.close()


@pytest.fixture
def connect():
    """Connects clients to a viewer; closed after the test."""
    clients = []

    def open_client(viewer, **shape) -> RawClient:
        clients.append(RawClient(viewer.port, **shape))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def difference(a, b) -> float:
    """Mean difference of two images in byte values; infinite for different sizes."""
    return float(np.abs(a.astype(int) - b).mean()) if a.shape == b.shape else np.inf


def like(expected, *, within):
    """A test whether an image is the expected one."""
    return lambda picture: difference(picture, expected) < within


def unlike(other, *, by):
    """A test whether an image of the same size is a different one."""
    return lambda picture: by < difference(picture, other) < np.inf


def still(session, request):
    """The still image that a window should receive, before JPEG."""
    return enlarge(session.render(request, is_still=True).image_u8, min_side=256)


def context_cameras(client) -> set[int]:
    """Frames whose cameras show an image."""
    nodes = list(client.nodes.items())
    return {int(name.rpartition("/")[2]) for name, node in nodes if node["props"].get("_image_data") is not None}


def test_a_window_is_sent_what_its_camera_sees(synthetic_session, start, connect):
    viewer = start(synthetic_session)
    client = connect(viewer, height=300, width=400)
    home = synthetic_session.home(1, aspect=400 / 300)
    shown = client.rested_picture(like(still(synthetic_session, home), within=2))
    assert "synthetic:1" in client.text()
    assert client.control("Scene 0 to 2")["value"] == 1
    client.wait(lambda: "px in" in client.text(), what="the status")

    before = len(client.pictures)
    client.move(position=(0.5, 0.1, -0.4))
    client.rested_picture(unlike(shown, by=5))
    assert "No context photo looked here" not in client.text()
    sizes = [client.picture(number).shape[0] for number in range(before, len(client.pictures))]
    assert min(sizes) < max(sizes)  # coarse while it moves
    client.move(look_at=(0.5, 0.1, -5.0))
    client.wait(lambda: "No context photo looked here" in client.text(), what="the warning")
    client.move(look_at=(0.0, 0.0, 1.0))
    client.set("Go to", "Reset view")
    client.rested_picture(like(shown, within=1))


@pytest.mark.slow
def test_scenes_are_stepped_through_and_frames_chosen(write_file_scene, open_session, start, connect, paint_model):
    for name in ("a", "b"):
        path = write_file_scene(name)
    session = open_session(path.parent, model=paint_model)
    client = connect(start(session))
    first = client.rested_picture(like(still(session, session.home(0, aspect=4 / 3)), within=2))
    client.set("Step", "Next ▶")
    client.wait(lambda: "### b" in client.text(), what="the next scene")
    client.rested_picture(unlike(first, by=5))
    client.set("Scene 0 to 1", 0)
    client.wait(lambda: "### a" in client.text(), what="scene 0")

    client.set("How many", 3)
    client.wait(lambda: client.control("Frames")["value"] == "0, 4, 6", what="three frames")
    client.wait(lambda: context_cameras(client) == {0, 4, 6}, what="their cameras")
    client.set("Frames", "6, 1")
    client.wait(lambda: client.control("How many")["value"] == 2, what="two frames")
    client.click_camera(4)
    client.wait(lambda: client.control("Frames")["value"] == "1, 4, 6", what="the clicked frame")
    client.wait(lambda: context_cameras(client) == {1, 4, 6}, what="its camera")
    client.click_camera(1)
    client.wait(lambda: client.control("Frames")["value"] == "4, 6", what="a frame taken away")
    expected = still(session, replace(session.home(0, aspect=4 / 3), frames=(4, 6)))
    client.rested_picture(like(expected, within=2))


def test_controls_wait_until_their_window_is_complete(synthetic_session, start, connect, monkeypatch):
    def slowly(**options) -> RenderLoop:
        time.sleep(0.3)
        return RenderLoop(**options)

    monkeypatch.setattr("wnv.viewer.window.RenderLoop", slowly)
    client = connect(start(synthetic_session))
    client.set("Show beside", True)
    client.wait(
        lambda: any("in the context" in str(c.get("label")) for c in client.controls.values()), what="the photo"
    )
    assert not client.notifications


def test_an_error_is_shown_and_rendering_continues(write_file_scene, open_session, start, connect, paint_model):
    client = connect(start(open_session(write_file_scene("walk"), model=paint_model)))
    client.rested_picture()
    client.set("Frames", "0, 99")
    client.wait(lambda: client.notifications, what="the notification")
    assert "frames 0 to 6, got [99]" in client.notifications[0]
    client.wait(lambda: client.control("Frames")["value"] == "0, 6", what="the current context")
    before = len(client.pictures)
    client.move(position=(10.0, 0.0, 0.0))
    client.wait(lambda: len(client.pictures) > before, what="a picture")


def test_context_cameras_in_one_place_are_reported(write_file_scene, open_session, start, connect, paint_model):
    session = open_session(write_file_scene("walk"), model=paint_model)
    client = connect(start(session))
    client.rested_picture()
    assert not client.notifications
    session.scene(0).camtoworld[1] = session.scene(0).camtoworld[0]
    client.set("Frames", "0, 1")
    client.wait(lambda: client.notifications, what="the notification")
    assert "shows no depth" in client.notifications[0]


@pytest.mark.slow
def test_times_and_the_nearest_photo(write_file_scene, open_session, start, connect, paint_model):
    session = open_session(write_file_scene("walk", kind="dynamic"), model=paint_model)
    client = connect(start(session))
    first = client.rested_picture(like(still(session, session.home(0, aspect=4 / 3)), within=2))
    client.set("Moment", 4.0)
    client.rested_picture(unlike(first, by=1))

    client.set("Moment", 2.0)
    client.set("Show beside", True)
    client.wait(
        lambda: any(c.get("label") == "frame 0, in the context" for c in client.controls.values()),
        what="the photo",
    )
    scene = session.scene(0)
    position, ahead = scene.camtoworld[4, :3, 3], scene.camtoworld[4, :3, 2]
    client.move(position=tuple(position.tolist()), look_at=tuple((position + ahead).tolist()))
    client.set("Moment", float(scene.times[4]))
    client.control("frame 4, not in the context")
    client.move(position=(position[0].item(), position[1].item(), position[2].item() - 0.1))
    client.set("Go to its camera", True)
    home = session.home(0, aspect=4 / 3)
    camera = replace(home.camera, camtoworld=scene.camtoworld[4])
    expected = still(session, replace(home, camera=camera, time=float(scene.times[4])))
    client.rested_picture(like(expected, within=2))


def test_the_photo_follows_scene_and_context(write_file_scene, open_session, start, connect, paint_model, monkeypatch):
    shown = []
    monkeypatch.setattr(Panel, "show_photo", lambda _, image_u8, label="": shown.append((image_u8, label)))
    for name in ("a", "b"):
        path = write_file_scene(name)
    session = open_session(path.parent, model=paint_model)
    client = connect(start(session))
    client.rested_picture()
    client.set("Show beside", True)

    def shows(scene: int, label: str) -> bool:
        photo = enlarge(to_u8(session.scene(scene).image(0)), min_side=256)
        return bool(shown) and shown[-1][1] == label and np.array_equal(shown[-1][0], photo)

    client.wait(lambda: shows(0, "frame 0, in the context"), what="the photo")
    client.set("Step", "Next ▶")
    client.wait(lambda: shows(1, "frame 0, in the context"), what="the photo of the next scene")
    client.set("Frames", "1, 6")
    client.wait(lambda: shows(1, "frame 0, not in the context"), what="the new context")


@pytest.mark.slow
@pytest.mark.parametrize("width", [200, 400])
def test_the_overview_shows_all_cameras(synthetic_session, start, connect, width):
    client = connect(start(synthetic_session), height=300, width=width)
    home = client.rested_picture(
        like(still(synthetic_session, synthetic_session.home(1, aspect=width / 300)), within=2)
    )
    client.wait(lambda: client.nodes["/cameras/0"]["visible"] is False, what="an unblocked view")
    client.set("Go to", "All cameras")
    client.wait(lambda: client.pictures[-1] is None and "/view" in client.nodes, what="the cameras alone")
    client.wait(lambda: all(client.nodes[f"/cameras/{frame}"]["visible"] for frame in range(5)), what="all of them")
    rotation, position, fov = client.camera()
    seen = (synthetic_session.scene(1).camtoworld[:, :3, 3].numpy() - position) @ rotation
    half = np.tan(fov / 2)
    assert (np.abs(seen[:, :2] / seen[:, 2:]) < [half * width / 300, half]).all()
    assert (seen[:, 2] > 0).all()
    client.set("Show cameras", False)
    client.wait(lambda: not client.nodes["/cameras/0"]["visible"], what="no cameras")
    client.set("Go to", "Reset view")
    client.rested_picture(like(home, within=1))
    client.wait(lambda: "/view" not in client.nodes, what="the view from outside to be gone")


def test_a_screenshot_is_downloaded(synthetic_session, start, connect):
    client = connect(start(synthetic_session))
    shown = client.rested_picture()
    client.set("Screenshot", True)
    name, content = client.download()
    assert name.startswith("synthetic-1-")
    picture = np.asarray(Image.open(io.BytesIO(content)).resize((shown.shape[1], shown.shape[0])))
    assert difference(picture, shown) < 3


@pytest.mark.slow
def test_the_camera_is_recorded_and_saved(synthetic_session, start, connect, tmp_path):
    client = connect(start(synthetic_session, video_fps=10))
    client.rested_picture()
    client.set("Record", True)
    client.wait(lambda: "Recording" in client.text(), what="the recording")
    for step in range(4):
        client.move(position=(0.1 * step, 0.0, 0.0))
        time.sleep(0.05)
    client.set("Stop and save", True)
    client.wait(lambda: "Saved" in client.text(), what="the video")
    (video,) = (tmp_path / "videos").iterdir()
    assert video.name == "synthetic-1-000.mp4"
    assert str(video) in client.text()
    assert client.download() == (video.name, video.read_bytes())


def test_a_path_of_keyframes_is_exported_imported_played_and_rendered(synthetic_session, start, connect, tmp_path):
    client = connect(start(synthetic_session, video_fps=5))
    client.rested_picture()
    places = [(0.0, 0.0, 0.0), (0.2, 0.0, 0.0), (0.3, 0.1, 0.0)]
    client.set("Preview", True)
    client.wait(lambda: any("2 keyframes" in text for text in client.notifications), what="the refusal")
    for number, place in enumerate(places, start=1):
        client.move(position=place, look_at=(*place[:2], 1.0))
        client.set("Keyframe", "Add")
        client.wait(lambda n=number: f"{n} keyframe" in client.text(), what="the keyframe")
    client.set("Seconds each", 0.4)
    client.set("Export path", True)
    name, content = client.download()
    assert name == "synthetic-1-path.json"
    path = parse_path(content, where=name)
    assert (len(path.frames), len(path.keyframes), path.fps) == (4, 3, 5)
    assert np.allclose([camera.camtoworld[:3, 3] for camera in path.keyframes], places, atol=1e-6)

    client.set("Keyframe", "Clear")
    client.wait(lambda: "Move to a view" in client.text(), what="no keyframe")
    client.upload("Import path", "mine.json", content)
    client.wait(lambda: "3 keyframes, 0.8 s" in client.text(), what="the keyframes")
    client.set("Preview", True)
    client.wait(lambda: np.allclose(client.camera()[1], places[-1]), what="the end of the path")
    client.set("Video quality", "fast, as while moving")
    client.set("Render video of the path", True)
    client.wait(lambda: "Saved" in client.text(), what="the video")
    with av.open(str(tmp_path / "videos" / "synthetic-1-000.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 4


def test_a_video_is_cancelled(synthetic_session, start, connect, tmp_path, paint_model):
    client = connect(start(synthetic_session))
    client.rested_picture()
    client.set("Record", True)
    client.wait(lambda: "Recording" in client.text(), what="the recording")
    client.move(position=(0.1, 0.0, 0.0))
    client.rested_picture()
    rendering, released = threading.Event(), threading.Event()
    render = paint_model.render

    def slow(*arguments):
        rendering.set()
        assert released.wait(100)
        return render(*arguments)

    paint_model.render = slow
    client.set("Stop and save", True)
    assert rendering.wait(60)
    client.set("Cancel", True)
    released.set()
    client.wait(lambda: "Cancelled" in client.text(), what="the end")
    assert not list((tmp_path / "videos").iterdir())


@pytest.mark.slow
def test_two_windows_look_at_different_things(synthetic_session, start, connect):
    viewer = start(synthetic_session)
    one, two = connect(viewer), connect(viewer, height=400, width=300)
    first = one.rested_picture(like(still(synthetic_session, synthetic_session.home(1, aspect=4 / 3)), within=2))
    two.set("Scene 0 to 2", 2)
    two.wait(lambda: "synthetic:2" in two.text(), what="scene 2")
    upright = two.rested_picture(like(still(synthetic_session, synthetic_session.home(2, aspect=3 / 4)), within=2))
    assert upright.shape[0] > upright.shape[1]
    assert "synthetic:1" in one.text()
    assert difference(one.picture(), first) == 0
    assert viewer.num_windows == 2


def test_a_client_may_disconnect_while_its_image_is_rendered(synthetic_session, start, connect, paint_model):
    rendering, released = threading.Event(), threading.Event()
    render = paint_model.render

    def slow(*arguments):
        rendering.set()
        assert released.wait(100)
        return render(*arguments)

    viewer = start(synthetic_session)
    leaver, remaining = connect(viewer), connect(viewer)
    is_home = like(still(synthetic_session, synthetic_session.home(1, aspect=4 / 3)), within=2)
    leaver.rested_picture(is_home)
    shown = remaining.rested_picture(is_home)
    paint_model.render = slow
    leaver.move(position=(0.4, 0.0, 0.0))
    assert rendering.wait(60)
    leaver.close()
    remaining.wait(lambda: viewer.num_windows == 1, what="the window to be gone")
    released.set()
    remaining.move(position=(0.3, 0.1, -0.2))
    remaining.rested_picture(unlike(shown, by=2))
    newcomer = connect(viewer)
    newcomer.rested_picture(like(shown, within=1))


def test_a_port_in_use_is_rejected(synthetic_session, start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"port={port} of 127\.0\.0\.1"):
            Viewer(synthetic_session, port=port, settings=WindowSettings(out=Path("videos")))
    # And it is free again once a viewer has disconnected.
    viewer = start(synthetic_session)
    viewer.close()
    with Viewer(synthetic_session, port=viewer.port, settings=WindowSettings(out=Path("videos"))) as again:
        assert again.port == viewer.port
        assert again.url == f"http://127.0.0.1:{again.port}"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"host": "no such host"}, "host=no such host"),
        ({"host": "192.0.2.1"}, r"host=192\.0\.2\.1"),
        ({"port": 65536}, "port.*65536"),
        ({"port": -1}, "port.*-1"),
    ],
)
def test_an_invalid_address_is_rejected(synthetic_session, address, message):
    with pytest.raises(ValueError, match=message):
        Viewer(synthetic_session, settings=WindowSettings(out=Path("videos")), **address)


def test_the_server_listens_on_this_machine_alone(synthetic_session, start):
    viewer = start(synthetic_session)
    listening = viewer._server._websock_server
    assert listening._host == "127.0.0.1"
    assert viewer._server.request_share_url() is None
