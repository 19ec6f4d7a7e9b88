import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from wnv.evaluation.images import to_u8
from wnv.geometry.rays import camera_rays
from wnv.viewer.session import BORDER_GREY


class RayModel:
    """Paints the direction of each ray; counts calls and overlapping threads."""

    def __init__(self):
        self.encoded, self.rendered, self.busy, self.overlaps = 0, 0, threading.Lock(), 0

    def to(self, device):
        return self

    def eval(self):
        return self

    def encode(self, context):
        self.encoded += 1
        return context

    def render(self, scene, cameras, times=None):
        if not self.busy.acquire(blocking=False):
            self.overlaps += 1
            return None
        try:
            self.rendered += cameras.batch_shape[1]
            time.sleep(0.001)
            rays = camera_rays(cameras.K, height=cameras.height, width=cameras.width)
            rays = torch.einsum("...ij,...hwj->...ihw", cameras.camtoworld[..., :3, :3], rays)
            return 0.5 + 0.5 * rays / rays.norm(dim=-3, keepdim=True)
        finally:
            self.busy.release()


@pytest.mark.parametrize("frames", [(0, 6), (1, 2, 5)])
def test_a_window_at_a_context_camera_shows_what_the_model_renders_there(write_file_scene, open_session, model, frames):
    session = open_session(write_file_scene("walk", kind="dynamic"))
    home, scene = session.home(0), session.scene(0)
    context = scene.context(frames)
    with torch.inference_mode():
        expected = model.render(model.encode(context[None]), context.cameras[None], context.times[None])[0]
    assert expected.std(dim=(-1, -2)).min() > 0.02  # no two cameras see the same
    for row, frame in enumerate(frames):
        camera = replace(home.camera, camtoworld=scene.camtoworld[frame])
        request = replace(home, frames=frames, camera=camera, time=float(scene.times[frame]))
        image = session.render(request).image_u8
        assert image.shape == (40, 24, 3)
        assert np.abs(image.astype(int) - to_u8(expected[row])).max() <= 1


@pytest.mark.parametrize("aspect", [0.4, 0.6, 2.0])
@pytest.mark.parametrize("is_still", [False, True])
def test_each_pixel_shows_its_ray_in_a_window_of_any_shape(write_file_scene, open_session, aspect, is_still):
    session = open_session(write_file_scene("walk"), model=RayModel())
    request = session.home(0, aspect=aspect)
    image = session.render(request, is_still=is_still).image_u8 / 255
    height, width = image.shape[:2]
    assert width / height == pytest.approx(aspect, rel=0.1)
    half = np.tan(request.camera.fov_y / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * half * aspect
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * half
    rays = np.stack([*np.meshgrid(x, y), np.ones((height, width))], axis=-1)
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True) @ request.camera.camtoworld[:3, :3].numpy().T
    edge = 8 if is_still else 0  # where the shifted pictures end
    inside = (slice(edge, height - edge), slice(edge, width - edge))
    if aspect == 2.0:  # beside the image, the window is empty
        is_empty = (image == BORDER_GREY / 255).all(axis=(0, 2))
        assert is_empty[[0, -1]].all()
        assert 0.2 < is_empty.mean() < 0.7
        shown = np.flatnonzero(~is_empty)
        inside = (inside[0], slice(shown[0] + edge, shown[-1] + 1 - edge))
    assert np.abs(image - (0.5 + 0.5 * rays))[inside].max() < 0.01


def test_image_sizes(write_file_scene, open_session):
    path = write_file_scene("walk")
    assert open_session(path).image_size(0, is_still=False) == (40, 24, 1)
    assert open_session(path).image_size(0, is_still=True) == (40, 24, 4)
    small = open_session(path, moving_side=10, still_side=50)
    assert small.image_size(0, is_still=False) == (16, 8, 1)
    assert small.image_size(0, is_still=True) == (40, 24, 2)
    assert small.render(small.home(0)).image_u8.shape == (14, 8, 3)  # of 16 rows, those of a window of 24:40


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"moving_side": 0}, "moving_side.*0"),
        ({"moving_side": 64, "still_side": 32}, "still_side.*moving_side=64.*32"),
        ({"num_encoded": 0}, "num_encoded"),
    ],
)
def test_settings_out_of_range(write_file_scene, open_session, settings, message):
    with pytest.raises(ValueError, match=message):
        open_session(write_file_scene("walk"), **settings)


def test_a_context_is_encoded_once_and_kept_among_the_latest(write_file_scene, open_session):
    model = RayModel()
    session = open_session(write_file_scene("walk"), model=model, num_encoded=2)
    home = session.home(0)
    first = session.render(home)
    assert first.encode_s > 0
    assert session.render(home).encode_s == 0
    session.encode(0, home.frames)
    assert model.encoded == 1
    for frames in ((1, 2), (0, 6), (3, 4), (0, 6)):
        session.render(replace(home, frames=frames))
    assert model.encoded == 3
    session.render(replace(home, frames=(1, 2)))  # pushed out by (3, 4)
    assert model.encoded == 4


def test_threads_render_one_after_the_other(write_file_scene, open_session):
    model = RayModel()
    session = open_session(write_file_scene("walk"), model=model)
    home = session.home(0)
    session.encode(0, home.frames)
    with ThreadPoolExecutor(6) as pool:
        views = list(pool.map(lambda i: session.render(home, is_still=i % 2 == 0), range(12)))
    assert model.overlaps == 0
    assert {view.image_u8.shape for view in views} == {(40, 24, 3), (160, 96, 3)}


def test_a_stale_still_image_is_aborted(write_file_scene, open_session):
    model = RayModel()
    session = open_session(write_file_scene("walk"), model=model)
    answers = iter([False, False, True])
    assert session.render(session.home(0), is_still=True, is_stale=lambda: next(answers)) is None
    assert model.rendered == 2 * 4


def test_invalid_requests(write_file_scene, open_session):
    session = open_session(write_file_scene("walk"))
    home = session.home(0)
    with pytest.raises(ValueError, match="frames 0 to 6"):
        session.render(replace(home, frames=(0, 9)))
    with pytest.raises(IndexError, match=r"scene.*1"):
        session.scene(1)
    session.close()
    with pytest.raises(CancelledError):
        session.render(home)
