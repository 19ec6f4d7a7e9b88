import math
import weakref
from concurrent.futures import CancelledError

import av
import pytest

from wnv.geometry.poses import rotation_angle
from wnv.viewer.camera import window_camera
from wnv.viewer.recording import Recording, VideoCancelled, write_video
from wnv.viewer.session import ViewRequest


def request(x, *, angle=0.0, time=0.0, frames=(0, 1), aspect=1.0, fov_y=1.0):
    camera = window_camera(
        wxyz=(math.cos(angle / 2), 0, math.sin(angle / 2), 0), position=(x, 0, 0), fov_y=fov_y, aspect=aspect
    )
    return ViewRequest(scene=0, frames=frames, camera=camera, time=time)


def test_cameras_are_interpolated():
    recording = Recording()
    recording.add(request(0, angle=0, time=0.0, fov_y=1.0), 5.0)
    recording.add(request(1, angle=0.8, time=4.0, fov_y=0.6, aspect=2.0), 6.0)
    frames = list(recording.frames(fps=4))
    assert len(frames) == recording.num_frames(fps=4) == 5
    assert [float(frame.camera.camtoworld[0, 3]) for frame in frames] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert [frame.time for frame in frames] == pytest.approx([0, 1, 2, 3, 4])
    assert [frame.camera.fov_y for frame in frames] == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])
    first = frames[0].camera.camtoworld[:3, :3]
    turned = [float(rotation_angle(first, frame.camera.camtoworld[:3, :3])) for frame in frames]
    assert turned == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-5)
    assert {frame.camera.aspect for frame in frames} == {1.0}


def test_a_change_of_context_is_not_interpolated():
    recording = Recording()
    recording.add(request(0), 0.0)
    recording.add(request(0, frames=(1, 2)), 1.0)
    assert [frame.frames for frame in recording.frames(fps=2)] == [(0, 1), (0, 1), (1, 2)]


def test_a_recording_has_a_limit():
    recording = Recording(max_s=1.0)
    for i in range(5):
        recording.add(request(i), 0.5 * i)
    assert recording.is_full
    assert [float(frame.camera.camtoworld[0, 3]) for frame in recording.frames(fps=2)] == [0, 1, 2]


def test_an_empty_recording():
    with pytest.raises(ValueError, match="recorded"):
        list(Recording().frames(fps=10))
    recording = Recording()
    recording.add(request(0), 0.0)
    with pytest.raises(ValueError, match="fps"):
        list(recording.frames(fps=0))


def test_a_video_gets_the_first_free_name(tmp_path, synthetic_session):
    home = synthetic_session.home(1)
    (tmp_path / "room-000.mp4").write_text("mine")
    progress = []
    path = write_video([home] * 3, synthetic_session, out=tmp_path, name="room", fps=8, on_frame=progress.append)
    assert path == tmp_path / "room-001.mp4"
    assert (tmp_path / "room-000.mp4").read_text() == "mine"
    assert progress == [1, 2, 3]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["room-000.mp4", "room-001.mp4"]
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    still = synthetic_session.render(home, is_still=True).image_u8
    assert len(frames) == 3
    assert frames[0].shape[0] >= 256
    assert abs(frames[0].mean() - still.mean()) < 4


def test_frames_are_freed_once_they_are_written(tmp_path, synthetic_session, monkeypatch):
    rendered, most = [], 0
    render = synthetic_session.render

    def watched(*arguments, **options):
        nonlocal most
        most = max(most, sum(frame() is not None for frame in rendered))
        view = render(*arguments, **options)
        rendered.append(weakref.ref(view.image_u8))
        return view

    monkeypatch.setattr(synthetic_session, "render", watched)
    write_video([synthetic_session.home(1)] * 6, synthetic_session, out=tmp_path, name="room", is_still=False)
    assert len(rendered) == 6
    assert most <= 2


@pytest.mark.parametrize("fault", [VideoCancelled, ZeroDivisionError, CancelledError])
def test_a_video_that_is_not_finished_leaves_no_file(tmp_path, synthetic_session, fault):
    def stop(done):
        raise fault

    with pytest.raises(fault):
        write_video([synthetic_session.home(1)] * 3, synthetic_session, out=tmp_path, name="room", on_frame=stop)
    assert not list(tmp_path.iterdir())
