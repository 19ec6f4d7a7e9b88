import pytest
import torch

from wnv.models.camera_encoding import encode_cameras
from wnv.models.precision import HeadNorm


@pytest.fixture
def make_maps(make_cameras):
    def make(camera_encoding="geope", patch_encoding="rope2d", *, cameras=None):
        cameras = make_cameras(2, 3, dtype=torch.float64) if cameras is None else cameras
        return encode_cameras(
            cameras, camera_encoding=camera_encoding, patch_encoding=patch_encoding, patch_size=8, head_dim=16
        )

    return make


def make_norm():
    norm = HeadNorm(dim=16).double()
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    return norm


@pytest.mark.parametrize("with_norm", [True, False])
@pytest.mark.parametrize("encodings", [("geope", "rope2d"), ("geope", "none"), ("none", "rope2d"), ("none", "none")])
@pytest.mark.parametrize("fused", [True, False])
def test_equals_separate_operations_with_their_gradients(make_maps, monkeypatch, encodings, with_norm, fused):
    maps, norm = make_maps(*encodings), make_norm() if with_norm else None
    x, gradient = torch.randn(2, 2, 3, 6, 4, 16, dtype=torch.float64)
    x.requires_grad_()
    leaves = [x, norm.weight] if norm else [x]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: fused)
    mapped = maps.map_query(x, norm)
    gradients = torch.autograd.grad(mapped, leaves, gradient) if mapped is not x else None
    camera, place = (norm(x) if norm else x).chunk(2, dim=-1)
    if maps.query is not None:
        camera = (camera.unflatten(-1, (2, 4)) @ maps.query[:, :, None, None]).flatten(-2)
    if maps.patch is not None:
        place = maps.patch.apply(place)
    expected = torch.cat([camera, place], dim=-1)
    torch.testing.assert_close(mapped, expected, rtol=0, atol=1e-12)
    if gradients is not None:
        for one, other in zip(gradients, torch.autograd.grad(expected, leaves, gradient), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_only_the_input_is_saved_for_the_backward_pass(make_maps):
    maps, norm = make_maps(), make_norm()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        x = torch.randn(2, 3, 6, 4, 16, dtype=torch.float64, requires_grad=True)
        maps.map_query(x, norm)
    assert [tensor.data_ptr() for tensor in saved if tensor.numel() >= x.numel()] == [x.data_ptr()]


def test_cameras_that_need_gradients_get_them(make_cameras, make_maps):
    cameras = make_cameras(2, 3, dtype=torch.float64)
    cameras.camtoworld.requires_grad_()
    maps = make_maps(cameras=cameras)
    x = torch.randn(2, 3, 6, 4, 16, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(maps.map_query(x, make_norm()).square().sum(), cameras.camtoworld)
    assert gradient.abs().sum() > 0
