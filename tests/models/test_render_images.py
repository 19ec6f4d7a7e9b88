"""Arrays in, arrays out: the same images as with tensors, in any world, without Lightning and Hydra."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from wnv.geometry.poses import WorldFrame, fit_world_frame, look_at, random_se3
from wnv.types import Cameras, Views

K = np.array([[22.0, 0, 13], [0, 24, 7], [0, 0, 1]])


@pytest.fixture
def poses() -> np.ndarray:
    return random_se3((5,), generator=torch.Generator().manual_seed(1), dtype=torch.float64).numpy()


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", ["mean", "first"])
@pytest.mark.parametrize("attention", ["cached", "joint"])
def test_equals_the_tensors(make_model, images, poses, method, attention):
    model = make_model(pose_normalization=method, attention=attention, ray_code="plucker")
    rendered = model.render_images(images, K, poses[:3], poses[3:])
    assert (rendered.shape, rendered.dtype) == ((2, 16, 24, 3), np.uint8)
    camtoworld = torch.from_numpy(poses)
    placed = fit_world_frame(camtoworld[:3], method=method).apply(camtoworld).float()
    cameras = Cameras(K=torch.from_numpy(K).float().expand(5, 3, 3), camtoworld=placed, width=24, height=16)
    given = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    context = Views(images=given, cameras=cameras[:3], times=torch.zeros(3))
    with torch.inference_mode():
        expected = model(context[None], cameras[None, 3:])[0].permute(0, 2, 3, 1) * 255
    assert np.abs(rendered - expected.numpy()).max() < 0.51
    assert rendered.std() > 5


def test_any_world_any_split_any_form_of_the_same_input(make_model, images, poses):
    model = make_model(ray_code="plucker")
    rendered = model.render_images(images, K, poses[:3], poses[3:])
    frame = WorldFrame(newfromold=torch.from_numpy(poses[4]), scale=torch.tensor(37.0, dtype=torch.float64))
    moved = frame.apply(torch.from_numpy(poses)).numpy()
    assert np.abs(model.render_images(images, K, moved[:3], moved[3:]).astype(int) - rendered).max() <= 1
    one = model.render_images(list(images / np.float32(255)), np.stack([K] * 3), poses[:3], poses[4], target_K=K)
    assert one.shape == (16, 24, 3)
    assert np.abs(one.astype(int) - rendered[1]).max() <= 1
    many = model.render_images(images, K, poses[:3], np.stack([poses[3]] * 10))
    assert np.abs(many.astype(int) - rendered[0]).max() <= 1
    other = model.render_images(images, K, poses[:3], poses[4], target_K=K * [[2.0], [2.0], [1.0]])
    assert np.abs(other.astype(int) - one).max() > 5


def test_doubtful_cameras_are_logged_once(make_model, images, poses, caplog):
    model, flip = make_model(), np.diag([1.0, -1, -1, 1])
    angle = torch.linspace(0, 1, 4)
    eyes = 4 * torch.stack([angle.cos(), angle.sin(), torch.zeros(4)], dim=-1)
    around = look_at(eyes, torch.zeros(3), torch.tensor([0.0, 0, 1])).double().numpy()
    for given, K_given, word in (
        (around, K, None),
        (around, K * [[30.0, 1, 1], [1, 30, 1], [1, 1, 1]], "5 to 150 degrees, got 2.08"),
        (around @ flip, K, "OpenGL"),
        (around[[0, 0, 0, 3]], K, "all 3 cameras have one pose"),
    ):
        caplog.clear()
        for _ in range(2):
            model.render_images(images, K_given, given[:3], given[3])
        assert [word in record.getMessage() for record in caplog.records] == [True] * (word is not None)


@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.float64, np.longdouble])
def test_floats_of_any_precision_are_images(make_model, images, poses, dtype):
    model = make_model()
    rendered = model.render_images((images / 255).astype(dtype), K, poses[:3], poses[3:])
    assert np.abs(rendered.astype(int) - model.render_images(images, K, poses[:3], poses[3:])).max() <= 1


@pytest.mark.parametrize(("dtype", "levels"), [(torch.float16, 2), (torch.bfloat16, 12), (torch.float64, 1)])
def test_weights_of_another_precision_renders_the_same(make_model, images, poses, dtype, levels):
    options = dict(time_code=True, adaln_zero=True, ray_code="fixed", ray_size=[16, 24])
    times = dict(times_s=[0.0, 1.0, 2.0], target_times_s=[0.5, 1.5])
    model = make_model(**options)
    rendered = model.render_images(images, K, poses[:3], poses[3:], **times)
    cast = model.to(dtype).render_images(images, K, poses[:3], poses[3:], **times)
    assert np.abs(cast.astype(int) - rendered).max() <= levels


def test_times_are_placed_in_the_window_of_the_context(make_model, images, poses):
    model = make_model(time_code=True)
    times = dict(times_s=[10.0, 11.0, 14.0])
    alone = model.render_images(images, K, poses[:3], poses[3], **times, target_times_s=[12.0])
    beside = model.render_images(images, K, poses[:3], poses[[3, 4]], **times, target_times_s=[12.0, 90.0])
    assert np.abs(alone.astype(int) - beside[0]).max() <= 1
    early = model.render_images(images, K, poses[:3], poses[3], times_s=[10.0, 11.0, 14.0], target_times_s=[10.0])
    again = model.render_images(images, K, poses[:3], poses[3], times_s=[0.0, 0.5, 2.0], target_times_s=[0.0])
    late = model.render_images(images, K, poses[:3], poses[3], times_s=[10.0, 11.0, 14.0], target_times_s=[14.0])
    assert np.abs(early.astype(int) - again).max() <= 1
    assert np.abs(early.astype(int) - late).max() > 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(images=[]), "images.*one size"),
        (dict(images=[np.zeros((16, 24, 3)), np.zeros((24, 16, 3))]), r"images.*\(16, 24, 3\), \(24, 16, 3\)"),
        (dict(images=np.zeros((3, 3, 16, 24))), r"images.*\(3, 3, 16, 24\)"),
        (dict(images=np.zeros((3, 0, 24, 3))), r"images.*\(3, 0, 24, 3\)"),
        (dict(images=np.zeros((3, 16, 0, 3), np.uint8)), r"images.*\(3, 16, 0, 3\)"),
        (dict(images=np.full((3, 16, 24, 3), 255.0)), r"images.*float64 in 255\.0\.\.255\.0"),
        (dict(images=np.full((3, 16, 24, 3), np.nan)), "images.*float64 in nan"),
        (dict(images=np.ones((3, 16, 24, 3), int)), "images.*int"),
        (dict(images=np.zeros((3, 20, 24, 3))), "height.*patch_size=8.*20"),
        (dict(K=np.eye(3)), "K must be in pixels"),
        (dict(K=np.stack([K] * 2)), r"K must have shape \(3, 3\) or \(3, 3, 3\), got \(2, 3, 3\)"),
        (
            dict(K=K.T),
            r"K must be \[\[fx, skew, cx\].*finite.*22\.0",
        ),
        (dict(K=np.stack([K, 2 * K, K])), r"K must be \[\[fx, skew, cx\]"),
        (
            dict(target_K=K * [[1, 1, np.nan], [1, 1, 1], [1, 1, 1]]),
            r"target_K must be .*finite.*22\.0",
        ),
        (dict(camtoworld=np.stack([np.eye(4)] * 2)), r"camtoworld.*\(3, 4, 4\).*got \(2, 4, 4\)"),
        (dict(camtoworld=np.stack([np.eye(4), 2 * np.eye(4), np.eye(4)])), r"camtoworld.*\[1\]"),
        (dict(target_camtoworld=np.eye(3)), r"target_camtoworld must have shape \(4, 4\) or \(target, 4, 4\)"),
        (dict(target_camtoworld=np.zeros((0, 4, 4))), r"got \(0, 4, 4\)"),
        (dict(target_K=np.stack([K] * 2)), r"target_K must have shape \(3, 3\) or \(1, 3, 3\)"),
        (dict(times_s=[0.0, 1.0, 2.0]), "target_times_s.*none"),
        (
            dict(times_s=[0.0, np.nan, 2.0], target_times_s=[1.0]),
            r"times_s and target_times_s must be finite, got \[0\.0, nan",
        ),
        (dict(times_s=[0.0], target_times_s=[0.0]), r"times_s must be 3.*got \(1,\)"),
    ],
)
def test_rejects_what_cannot_be_what_it_stands_for(make_model, images, poses, change, message):
    given = dict(images=images, K=K, camtoworld=poses[:3], target_camtoworld=poses[4]) | change
    with pytest.raises(ValueError, match=message):
        make_model().render_images(**given)


def test_a_diverged_model_is_told(make_model, images, poses):
    model = make_model()
    torch.nn.init.constant_(model.head.weight, float("nan"))
    with pytest.raises(ValueError, match="non-finite"):
        model.render_images(images, K, poses[:3], poses[4])


WITHOUT_LIGHTNING_AND_HYDRA = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("lightning", "pytorch_lightning", "hydra", "omegaconf", "yaml", "wandb"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())
import numpy as np

from wnv.models.konet import KoNet

model = KoNet.from_pretrained("konet_tiny")
images = np.zeros((3, 64, 96, 3), np.uint8)
K = np.array([[80.0, 0, 48], [0, 80, 32], [0, 0, 1]])
camtoworld = np.tile(np.eye(4), (3, 1, 1))
camtoworld[:, 0, 3] = [0, 1, 2]
image = model.render_images(images, K, camtoworld, camtoworld[1])
print(image.shape, image.dtype)
"""


@pytest.mark.slow
def test_neither_lightning_nor_hydra_is_needed(tmp_path):
    outcome = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIGHTNING_AND_HYDRA], cwd=tmp_path, capture_output=True, text=True
    )
    assert (outcome.stdout, outcome.returncode) == ("(64, 96, 3) uint8\n", 0), outcome.stderr
