"""Attention with camera encodings against stored numbers, and against a slow written-out reference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from wnv.geometry.poses import random_se3
from wnv.models.attention import Attention, KeyValue, attend_context_and_own
from wnv.models.camera_encoding import encode_cameras
from wnv.models.precision import HeadNorm
from wnv.types import Cameras

ASSET = Path(__file__).parents[1] / "assets" / "geope_attention.npz"


def attend(q, k, v, maps):
    """Attention over all views at once; q, k, v are `batch view token head dim`."""
    flat = [x.flatten(1, 2).transpose(1, 2) for x in (maps.map_query(q), maps.map_key_value(k), maps.map_key_value(v))]
    out = functional.scaled_dot_product_attention(*flat).transpose(1, 2).reshape(q.shape)
    return maps.map_output(out)


def written_out_attention(q, k, v, cameras, *, camera_encoding, rows, columns):
    """The definition, one token at a time: dense matrices for the maps, numpy's solver for the inverse."""
    batch, num_views, num_tokens, num_heads, dim = q.shape
    quarter, num_freqs = dim // 4, dim // 8

    def camera_matrix(b, view):
        viewmat = torch.linalg.inv(cameras.camtoworld[b, view])
        if camera_encoding == "gta":
            return viewmat
        K = cameras.K[b, view]
        lifted = torch.eye(4, dtype=q.dtype)
        lifted[0, 0] = K[0, 0] / cameras.width
        lifted[1, 1] = K[1, 1] / cameras.height
        lifted[0, 2] = K[0, 2] / cameras.width - 0.5
        lifted[1, 2] = K[1, 2] / cameras.height - 0.5
        return lifted @ viewmat

    def rotation(position):
        matrix = torch.zeros(quarter, quarter, dtype=q.dtype)
        for j in range(num_freqs):
            angle = torch.tensor(position * 100.0 ** (-j / num_freqs), dtype=q.dtype)
            matrix[j, j] = matrix[j + num_freqs, j + num_freqs] = angle.cos()
            matrix[j, j + num_freqs] = angle.sin()
            matrix[j + num_freqs, j] = -angle.sin()
        return matrix

    out = torch.zeros_like(q)
    for b in range(batch):
        full = {}
        for view in range(num_views):
            P = camera_matrix(b, view)
            for token in range(num_tokens):
                parts = [rotation(token % columns), rotation(token // columns)]
                full[view, token] = (
                    torch.block_diag(*[P.T] * (dim // 8), *parts),
                    torch.block_diag(*[torch.linalg.inv(P)] * (dim // 8), *parts),
                    torch.block_diag(*[P] * (dim // 8), *[part.T for part in parts]),
                )
        for head in range(num_heads):
            for (view, token), (A, _, C) in full.items():
                query = A @ q[b, view, token, head]
                scores, values = [], []
                for (other_view, other_token), (_, B, _) in full.items():
                    scores.append(query @ (B @ k[b, other_view, other_token, head]) / dim**0.5)
                    values.append(B @ v[b, other_view, other_token, head])
                weights = torch.stack(scores).softmax(0)
                out[b, view, token, head] = C @ (weights @ torch.stack(values))
    return out


@pytest.mark.parametrize("case", ["geope_square", "gta_square", "geope_wide"])
def test_equals_stored_numbers(case):
    stored = {name.split("/")[1]: value for name, value in np.load(ASSET).items() if name.startswith(case + "/")}
    rows, columns = int(stored["patches_y"]), int(stored["patches_x"])
    viewmats = torch.from_numpy(stored["viewmats"])
    cameras = Cameras(
        K=torch.from_numpy(stored["Ks"]),
        camtoworld=torch.linalg.inv(viewmats),
        width=int(stored["image_width"]),
        height=int(stored["image_height"]),
    )
    num_views = viewmats.shape[1]
    q, k, v = (
        torch.from_numpy(stored[name]).transpose(1, 2).unflatten(1, (num_views, rows * columns)) for name in "qkv"
    )
    maps = encode_cameras(
        cameras,
        camera_encoding=case.split("_")[0],
        patch_encoding="rope2d",
        patch_size=cameras.width // columns,
        head_dim=q.shape[-1],
    )
    out = attend(q, k, v, maps).flatten(1, 2).transpose(1, 2)
    torch.testing.assert_close(out, torch.from_numpy(stored["out"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("camera_encoding", ["gta", "geope"])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (24, 16)])
def test_equals_written_out_reference(make_cameras, camera_encoding, height, width):
    cameras = make_cameras(1, 2, height=height, width=width, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    shape = (1, 2, (height // 8) * (width // 8), 2, 16)
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3))
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    maps = encode_cameras(
        cameras, camera_encoding=camera_encoding, patch_encoding="rope2d", patch_size=8, head_dim=shape[-1]
    )
    fast = attend(q, k, v, maps)
    slow = written_out_attention(
        q, k, v, cameras, camera_encoding=camera_encoding, rows=height // 8, columns=width // 8
    )
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-9)
    fast_gradients = torch.autograd.grad((fast * weight).sum(), (q, k, v))
    slow_gradients = torch.autograd.grad((slow * weight).sum(), (q, k, v))
    for one, other in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("camera_encoding", ["gta", "geope"])
@pytest.mark.parametrize("patch_encoding", ["none", "rope2d", "quaternion"])
def test_rigid_change_of_world_changes_nothing(make_cameras, camera_encoding, patch_encoding):
    cameras = make_cameras(2, 3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(2, 3, 6, 2, 16, generator=generator, dtype=torch.float64) for _ in range(3))
    change = random_se3((2, 1), generator=generator, dtype=torch.float64)
    moved = Cameras(K=cameras.K, camtoworld=change @ cameras.camtoworld, width=cameras.width, height=cameras.height)
    one, other = (
        attend(
            q,
            k,
            v,
            encode_cameras(
                each, camera_encoding=camera_encoding, patch_encoding=patch_encoding, patch_size=8, head_dim=16
            ),
        )
        for each in (cameras, moved)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_attend_views_equals_attend_all_on_context_and_one_view(make_cameras):
    torch.manual_seed(0)
    attention = Attention(dim=32, num_heads=2, qk_norm=True).double()
    context = torch.randn(2, 3, 6, 32, dtype=torch.float64)
    target = torch.randn(2, 4, 6, 32, dtype=torch.float64)
    options = dict(camera_encoding="geope", patch_encoding="rope2d", patch_size=8, head_dim=16)
    context_cameras = make_cameras(2, 3, dtype=torch.float64)
    target_cameras = make_cameras(2, 4, seed=9, dtype=torch.float64)
    cache = attention.project_key_value(context, encode_cameras(context_cameras, **options))
    rendered = attention.attend_views(target, encode_cameras(target_cameras, **options), cache)
    for view in range(4):
        cameras = Cameras(
            K=torch.cat([context_cameras.K, target_cameras.K[:, view : view + 1]], dim=1),
            camtoworld=torch.cat([context_cameras.camtoworld, target_cameras.camtoworld[:, view : view + 1]], dim=1),
            width=context_cameras.width,
            height=context_cameras.height,
        )
        tokens = torch.cat([context, target[:, view : view + 1]], dim=1)
        maps = encode_cameras(cameras, **options)
        whole, _ = attention.attend_all(tokens, maps)
        torch.testing.assert_close(rendered[:, view], whole[:, -1], rtol=0, atol=1e-12)


def test_head_norm_is_rms_norm_in_float32():
    norm = HeadNorm(dim=16)
    x = torch.randn(5, 16)
    torch.testing.assert_close(norm(x), functional.rms_norm(x, (16,), eps=1e-6))
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(norm(x), functional.rms_norm(x, (16,), eps=1e-6))


def test_maps_keep_the_type_of_low_precision_features(make_cameras):
    maps = encode_cameras(
        make_cameras(1, 2), camera_encoding="geope", patch_encoding="rope2d", patch_size=8, head_dim=16
    )
    x = torch.randn(1, 2, 6, 2, 16)
    low = maps.map_key_value(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low, maps.map_key_value(x.bfloat16().float()).bfloat16())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_separate_attention_to_context_and_own_view_equals_attention_to_both(monkeypatch, device):
    dtype, tolerance = (torch.float64, 1e-12) if device == "cpu" else (torch.bfloat16, 2e-2)
    generator = torch.Generator().manual_seed(5)
    shapes = [(2, 3, 7, 4, 16)] * 4 + [(2, 4, 11, 16)] * 2
    gradient, *inputs = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    inputs = [tensor.to(device, dtype).requires_grad_() for tensor in inputs]
    results = []
    for has_flash_attention in (True, False):
        monkeypatch.setattr("wnv.models.attention.has_flash_attention", lambda query, value=has_flash_attention: value)
        attended = attend_context_and_own(*inputs[:3], KeyValue(*inputs[3:]))
        results.append([attended, *torch.autograd.grad(attended, inputs, gradient.to(attended))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
