"""Converted PRoPE checkpoints render the same images as PRoPE's network, written out here in float64."""

import pytest
import torch
from torch import Tensor

from wnv.models.konet import KoNet
from wnv.models.prope import convert_prope
from wnv.types import Cameras, Views

HEIGHT, WIDTH, PATCH = 16, 24, 8
DIM, LAYERS, HEAD_DIM, MLP_DIM = 48, 2, 16, 40


def prope_state(*, qk_norm: bool = True, fixed_rays: bool = False) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of PRoPE's nvs/lvsm.py."""

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns) * columns**-0.5

    def norm(size: int) -> Tensor:
        return 1 + 0.3 * torch.randn(size)

    state = {
        "query_tokenizer.weight": matrix(DIM, 6 * PATCH**2),
        "input_tokenizer.weight": matrix(DIM, 9 * PATCH**2),
        "encoder.in_norm.weight": norm(DIM),
        "encoder.out_norm.weight": norm(DIM),
        "output_layer.weight": matrix(3 * PATCH**2, DIM),
    }
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}."
        state |= {f"{layer}self_attn.in_proj_weight": matrix(3 * DIM, DIM)}
        state |= {f"{layer}self_attn.out_proj.weight": matrix(DIM, DIM)}
        state |= {f"{layer}linear1.weight": matrix(MLP_DIM, DIM), f"{layer}linear2.weight": matrix(DIM, MLP_DIM)}
        state |= {f"{layer}norm1.weight": norm(DIM), f"{layer}norm2.weight": norm(DIM)}
        if qk_norm:
            state[f"{layer}self_attn.in_proj_weight"][: 2 * DIM] *= 3e-3  # so that the norms' eps matters
            state |= {f"{layer}self_attn.{part}_norm.weight": norm(HEAD_DIM) for part in "qk"}
    if fixed_rays:
        state["shared_rays"] = torch.randn(HEIGHT, WIDTH, 6)
    return state


def prope_image(
    state: dict[str, Tensor], views: Views, target: Cameras, *, camera_encoding: str, ray_code: str
) -> Tensor:
    """One target image of one scene (no batch axes but `view`) by PRoPE's network, step by step, in float64."""
    state = {name: tensor.double() for name, tensor in state.items()}
    Ks = torch.cat([views.cameras.K, target.K[None]]).double()
    camtoworlds = torch.cat([views.cameras.camtoworld, target.camtoworld[None]]).double()
    tokens = []
    for i, (K, camtoworld) in enumerate(zip(Ks, camtoworlds, strict=True)):
        rays = patches_of(prope_rays(state, K, camtoworld, ray_code))
        if i < len(views.images):
            colours = patches_of(views.images[i].double().permute(1, 2, 0))
            tokens.append(torch.cat([colours, rays], dim=-1) @ state["input_tokenizer.weight"].T)
        else:
            tokens.append(rays @ state["query_tokenizer.weight"].T)
    x = layer_norm(torch.cat(tokens), state["encoder.in_norm.weight"])
    maps = None if camera_encoding == "none" else head_maps(Ks, camtoworlds, with_K=camera_encoding != "gta")
    for i in range(LAYERS):
        w = {name.split(".", 3)[3]: tensor for name, tensor in state.items() if name.startswith(f"encoder.layers.{i}.")}
        x = x + attend(layer_norm(x, w["norm1.weight"]), w, maps)
        x = x + (layer_norm(x, w["norm2.weight"]) @ w["linear1.weight"].T).clamp_min(0) @ w["linear2.weight"].T
    rows, columns = HEIGHT // PATCH, WIDTH // PATCH
    x = layer_norm(x[-rows * columns :], state["encoder.out_norm.weight"])
    pixels = torch.sigmoid(x @ state["output_layer.weight"].T)
    return pixels.reshape(rows, columns, PATCH, PATCH, 3).permute(4, 0, 2, 1, 3).reshape(3, HEIGHT, WIDTH)


def prope_rays(state: dict[str, Tensor], K: Tensor, camtoworld: Tensor, ray_code: str) -> Tensor:
    if ray_code == "fixed":
        return state["shared_rays"]
    if ray_code == "camray":
        camtoworld = torch.eye(4, dtype=torch.float64)
    rays = torch.zeros(HEIGHT, WIDTH, 6, dtype=torch.float64)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            there = torch.linalg.solve(K, torch.tensor([column + 0.5, row + 0.5, 1], dtype=torch.float64))
            direction = camtoworld[:3, :3] @ there
            direction, origin = direction / direction.norm(), camtoworld[:3, 3]
            if ray_code == "raymap":
                rays[row, column] = torch.cat([origin, direction])
            else:
                rays[row, column] = torch.cat([direction, torch.linalg.cross(origin, direction)])
    return rays


def head_maps(Ks: Tensor, camtoworlds: Tensor, *, with_K: bool) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Matrices per token for the columns of a head: of queries, of keys and values, of outputs."""
    maps = []
    for K, camtoworld in zip(Ks, camtoworlds, strict=True):
        P = torch.eye(4, dtype=torch.float64)
        if with_K:
            P[:3, :3] = torch.diag(torch.tensor([1 / WIDTH, 1 / HEIGHT, 1], dtype=torch.float64)) @ K
            P[:2, 2] -= 0.5
        P = P @ torch.linalg.inv(camtoworld)
        for row in range(HEIGHT // PATCH):
            for column in range(WIDTH // PATCH):
                turns = torch.block_diag(turn(column), turn(row))
                tiles = [P] * (HEAD_DIM // 8)
                maps.append(
                    (
                        torch.block_diag(*(tile.T for tile in tiles), turns),
                        torch.block_diag(*(torch.linalg.inv(tile) for tile in tiles), turns),
                        torch.block_diag(*tiles, turns.T),
                    )
                )
    return maps


def turn(position: int) -> Tensor:
    """Rotary matrix of a quarter of a head: feature j with the one half a quarter further, base 100."""
    num = HEAD_DIM // 8
    angle = torch.diag(position * 100.0 ** (-torch.arange(num, dtype=torch.float64) / num))
    cos, sin = torch.diag(angle.diagonal().cos()), torch.diag(angle.diagonal().sin())
    return torch.cat([torch.cat([cos, sin], dim=1), torch.cat([-sin, cos], dim=1)])


def patches_of(pixels: Tensor) -> Tensor:
    height, width, channels = pixels.shape
    cut = pixels.reshape(height // PATCH, PATCH, width // PATCH, PATCH, channels).transpose(1, 2)
    return cut.reshape(-1, PATCH * PATCH * channels)


def layer_norm(x: Tensor, weight: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def attend(x: Tensor, w: dict[str, Tensor], maps: list[tuple[Tensor, Tensor, Tensor]] | None) -> Tensor:
    query, key, value = (x @ w["self_attn.in_proj_weight"].T).chunk(3, dim=-1)
    heads = []
    for start in range(0, DIM, HEAD_DIM):
        q, k, v = (part[:, start : start + HEAD_DIM] for part in (query, key, value))
        if "self_attn.q_norm.weight" in w:
            q = q / (q.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["self_attn.q_norm.weight"]
            k = k / (k.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["self_attn.k_norm.weight"]
        if maps is not None:
            q = torch.stack([of_query @ row for (of_query, _, _), row in zip(maps, q, strict=True)])
            k = torch.stack([of_key @ row for (_, of_key, _), row in zip(maps, k, strict=True)])
            v = torch.stack([of_value @ row for (_, of_value, _), row in zip(maps, v, strict=True)])
        out = torch.softmax(q @ k.T / HEAD_DIM**0.5, dim=-1) @ v
        if maps is not None:
            out = torch.stack([of_output @ row for (_, _, of_output), row in zip(maps, out, strict=True)])
        heads.append(out)
    return torch.cat(heads, dim=-1) @ w["self_attn.out_proj.weight"].T


@pytest.mark.parametrize(
    ("camera_encoding", "ray_code", "qk_norm"),
    [
        ("prope", "plucker", True),
        ("geope", "fixed", True),
        ("geope", "camray", False),
        ("gta", "raymap", True),
        ("none", "plucker", True),
    ],
)
def test_converted_checkpoint_renders_the_same_images(
    make_views, make_cameras, tmp_path, camera_encoding, ray_code, qk_norm
):
    state = prope_state(qk_norm=qk_norm, fixed_rays=ray_code == "fixed")
    tables = {"attention.coeffs_x_0": torch.zeros(1, 1, 18, 2)}
    saved = {f"module._orig_mod.{name}": tensor for name, tensor in (state | tables).items()}
    torch.save({"step": 80000, "model": saved, "optimizer": {}}, tmp_path / "step-000080000.pt")
    converted = convert_prope(
        tmp_path / "step-000080000.pt",
        camera_encoding=camera_encoding,
        ray_code=None if ray_code == "fixed" else ray_code,
        num_heads=None if qk_norm else DIM // HEAD_DIM,
    )
    assert converted.left_out == tuple(tables)
    assert converted.model.pose_normalization == "first"
    context, targets = make_views(1, 2, height=HEIGHT, width=WIDTH), make_cameras(1, 2, seed=5)
    with torch.inference_mode():
        rendered = converted.model(context, targets)
    for i in range(2):
        expected = prope_image(state, context[0], targets[0, i], camera_encoding=camera_encoding, ray_code=ray_code)
        assert expected.std() > 0.1
        torch.testing.assert_close(rendered[0, i].double(), expected, rtol=0, atol=1e-4)
    again = KoNet.from_pretrained(converted.model.save_pretrained(tmp_path / "weights"))
    assert torch.equal(again(context, targets), converted.model(context, targets))


def test_fixed_rays_allow_one_image_size(make_views, make_cameras, tmp_path):
    torch.save(prope_state(fixed_rays=True), tmp_path / "prope.pt")
    model = convert_prope(tmp_path / "prope.pt", camera_encoding="geope").model
    with pytest.raises(ValueError, match=r"16 x 24.*24 x 24"):
        model(make_views(height=24, width=24), make_cameras(height=24, width=24))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(ray_code="plucker"), "camera_encoding.*None"),
        (dict(ray_code="plucker", camera_encoding="rope"), "camera_encoding.*prope.*rope"),
        (dict(camera_encoding="geope"), "ray_code.*None"),
        (dict(camera_encoding="geope", ray_code="none"), "ray_code.*got none"),
        (dict(camera_encoding="geope", ray_code="fixed"), "ray_code.*has no shared_rays.*got fixed"),
    ],
)
def test_encodings_must_be_given(tmp_path, options, message):
    torch.save(prope_state(), tmp_path / "prope.pt")
    with pytest.raises(ValueError, match=message):
        convert_prope(tmp_path / "prope.pt", **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("heads", "num_heads"),
        ("fixed", "has shared_rays.*got plucker"),
        ("rayrope", "RayRoPE"),
        ("missing", r"tokenizer\.norm\.weight"),
        ("bias", r"expand\.bias"),
        ("lvsm", "from=lvsm"),
    ],
)
def test_other_checkpoints_are_rejected(tmp_path, change, message):
    state = prope_state(qk_norm=change != "heads", fixed_rays=change == "fixed")
    if change == "rayrope":
        state["encoder.layers.0.self_attn.d_proj_weight"] = torch.zeros(2, DIM)
    elif change == "missing":
        del state["encoder.in_norm.weight"]
    elif change == "bias":
        state["encoder.layers.0.linear1.bias"] = torch.zeros(MLP_DIM)
    elif change == "lvsm":
        state = {"image_tokenizer.1.weight": torch.zeros(2)}
    torch.save({"model": state}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=message):
        convert_prope(tmp_path / "other.pt", camera_encoding="geope", ray_code="plucker")
