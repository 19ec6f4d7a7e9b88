"""Converted LVSM and PRoPE checkpoints render the same images as those networks, written out here in float64."""

from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wnv.models.konet import KoNet
from wnv.models.lvsm import convert_lvsm
from wnv.models.prope import convert_prope
from wnv.types import Cameras, Views

HEIGHT, WIDTH = 16, 24
SMALL = dict(dim=48, num_layers=2, head_dim=16, mlp_dim=40, patch=8)
LVSM = {  # role of a tensor -> its name in LVSM_scene_decoder_only.py
    "context": "image_tokenizer.1.weight",
    "target": "target_pose_tokenizer.1.weight",
    "in_norm": "transformer_input_layernorm.weight",
    "out_norm": "image_token_decoder.0.weight",
    "head": "image_token_decoder.1.weight",
    "norm1": "transformer_blocks.{}.norm1.weight",
    "norm2": "transformer_blocks.{}.norm2.weight",
    "qkv": "transformer_blocks.{}.attn.to_qkv.weight",
    "output": "transformer_blocks.{}.attn.fc.weight",
    "q_norm": "transformer_blocks.{}.attn.q_norm.weight",
    "k_norm": "transformer_blocks.{}.attn.k_norm.weight",
    "expand": "transformer_blocks.{}.mlp.mlp.0.weight",
    "contract": "transformer_blocks.{}.mlp.mlp.2.weight",
}
PROPE = {  # the same in PRoPE's nvs/lvsm.py
    "context": "input_tokenizer.weight",
    "target": "query_tokenizer.weight",
    "in_norm": "encoder.in_norm.weight",
    "out_norm": "encoder.out_norm.weight",
    "head": "output_layer.weight",
    "norm1": "encoder.layers.{}.norm1.weight",
    "norm2": "encoder.layers.{}.norm2.weight",
    "qkv": "encoder.layers.{}.self_attn.in_proj_weight",
    "output": "encoder.layers.{}.self_attn.out_proj.weight",
    "q_norm": "encoder.layers.{}.self_attn.q_norm.weight",
    "k_norm": "encoder.layers.{}.self_attn.k_norm.weight",
    "expand": "encoder.layers.{}.linear1.weight",
    "contract": "encoder.layers.{}.linear2.weight",
}


def random_state(
    names: dict[str, str], *, dim: int, num_layers: int, head_dim: int, mlp_dim: int, patch: int, qk_norm: bool = True
) -> dict[str, Tensor]:
    """Random weights under a project's names; those of queries are so small that the eps of qk-norm matters."""
    matrices = {
        "context": (dim, 9 * patch**2),
        "target": (dim, 6 * patch**2),
        "head": (3 * patch**2, dim),
        "qkv": (3 * dim, dim),
        "output": (dim, dim),
        "expand": (mlp_dim, dim),
        "contract": (dim, mlp_dim),
    }
    norms = {"in_norm": dim, "out_norm": dim, "norm1": dim, "norm2": dim}
    norms |= {"q_norm": head_dim, "k_norm": head_dim} if qk_norm else {}
    weights = {role: lambda shape=shape: torch.randn(shape) * shape[1] ** -0.5 for role, shape in matrices.items()}
    weights |= {role: lambda size=size: 1 + 0.3 * torch.randn(size) for role, size in norms.items()}
    state = {}
    for role, make in weights.items():
        for layer in range(num_layers if "{}" in names[role] else 1):
            state[names[role].format(layer)] = make()
            if role == "qkv" and qk_norm:
                state[names[role].format(layer)][: 2 * dim] *= 3e-3
    return state


def written_out(names, state, tokens, *, num_target, head_dim, activation, maps=None):
    """Pixels of the last `num_target` tokens by the network, head by head; `maps` per token, see `camera_maps`."""
    x = layer_norm(tokens, state[names["in_norm"]])
    for layer in range(sum(name.endswith("norm1.weight") for name in state)):
        w = {role: state.get(name.format(layer)) for role, name in names.items()}
        heads = []
        query, key, value = (layer_norm(x, w["norm1"]) @ w["qkv"].T).chunk(3, dim=-1)
        for start in range(0, query.shape[-1], head_dim):
            q, k, v = (part[:, start : start + head_dim] for part in (query, key, value))
            if w["q_norm"] is not None:
                q = q / (q.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["q_norm"]
                k = k / (k.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["k_norm"]
            if maps is not None:
                q = torch.stack([of_query @ row for (of_query, _, _), row in zip(maps, q, strict=True)])
                k = torch.stack([of_key @ row for (_, of_key, _), row in zip(maps, k, strict=True)])
                v = torch.stack([of_value @ row for (_, of_value, _), row in zip(maps, v, strict=True)])
            out = torch.softmax(q @ k.T / head_dim**0.5, dim=-1) @ v
            if maps is not None:
                out = torch.stack([of_output @ row for (_, _, of_output), row in zip(maps, out, strict=True)])
            heads.append(out)
        x = x + torch.cat(heads, dim=-1) @ w["output"].T
        x = x + activation(layer_norm(x, w["norm2"]) @ w["expand"].T) @ w["contract"].T
    return torch.sigmoid(layer_norm(x[-num_target:], state[names["out_norm"]]) @ state[names["head"]].T)


def layer_norm(x: Tensor, weight: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def pixel_rays(K: Tensor, camtoworld: Tensor) -> tuple[Tensor, Tensor]:
    """Origin and unit direction of each pixel's ray, `height width 3`, in float64."""
    K, camtoworld = K.double(), camtoworld.double()
    directions = torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.float64)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            there = torch.linalg.solve(K, torch.tensor([column + 0.5, row + 0.5, 1], dtype=torch.float64))
            direction = camtoworld[:3, :3] @ there
            directions[row, column] = direction / direction.norm()
    return camtoworld[:3, 3].expand_as(directions), directions


def patches_of(pixels: Tensor, patch: int) -> Tensor:
    """Patches in row-major order; their pixels are in row-major order too, with the channels of a pixel together."""
    height, width, channels = pixels.shape
    cut = pixels.reshape(height // patch, patch, width // patch, patch, channels).transpose(1, 2)
    return cut.reshape(-1, patch * patch * channels)


def image_of(pixels: Tensor, patch: int) -> Tensor:
    cut = pixels.reshape(HEIGHT // patch, WIDTH // patch, patch, patch, 3)
    return cut.permute(4, 0, 2, 1, 3).reshape(3, HEIGHT, WIDTH)


def lvsm_image(state: dict[str, Tensor], views: Views, target: Cameras, *, patch: int) -> Tensor:
    """One target image of one scene by LVSM's network: Plücker rays, exact GELU."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def plucker(camera: Cameras) -> Tensor:
        origin, direction = pixel_rays(camera.K, camera.camtoworld)
        return torch.cat([torch.linalg.cross(origin, direction), direction], dim=-1)

    tokens = []
    for i in range(len(views.images)):
        colour = views.images[i].double().permute(1, 2, 0) * 2 - 1
        pixels = torch.cat([colour, plucker(views.cameras[i])], dim=-1)
        tokens.append(patches_of(pixels, patch) @ state[LVSM["context"]].T)
    tokens.append(patches_of(plucker(target), patch) @ state[LVSM["target"]].T)
    num_target = len(tokens[-1])
    pixels = written_out(
        LVSM,
        state,
        torch.cat(tokens),
        num_target=num_target,
        head_dim=16,
        activation=lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    )
    return image_of(pixels, patch)


def prope_image(
    state: dict[str, Tensor], views: Views, target: Cameras, *, camera_encoding: str, ray_code: str
) -> Tensor:
    """One target image of one scene by PRoPE's network: its rays and camera maps, ReLU."""
    state, patch, head_dim = {name: tensor.double() for name, tensor in state.items()}, SMALL["patch"], 16
    cameras = [*(views.cameras[i] for i in range(len(views.images))), target]
    tokens = []
    for i, camera in enumerate(cameras):
        origin, direction = pixel_rays(camera.K, torch.eye(4) if ray_code == "camray" else camera.camtoworld)
        rays = {
            "raymap": [origin, direction],
            "fixed": [state.get("shared_rays")],
        }.get(ray_code, [direction, torch.linalg.cross(origin, direction)])
        parts = [patches_of(torch.cat(rays, dim=-1), patch)]
        if i < len(views.images):
            parts.insert(0, patches_of(views.images[i].double().permute(1, 2, 0), patch))
        role = "context" if i < len(views.images) else "target"
        tokens.append(torch.cat(parts, dim=-1) @ state[PROPE[role]].T)
    maps = None
    if camera_encoding != "none":
        maps = camera_maps(cameras, with_K=camera_encoding != "gta", head_dim=head_dim, patch=patch)
    pixels = written_out(
        PROPE,
        state,
        torch.cat(tokens),
        num_target=len(tokens[-1]),
        head_dim=head_dim,
        activation=lambda x: x.clamp_min(0),
        maps=maps,
    )
    return image_of(pixels, patch)


def camera_maps(cameras: list[Cameras], *, with_K: bool, head_dim: int, patch: int):
    """Matrices per token for the columns of a head: of queries, of keys and values, of outputs."""
    maps = []
    for camera in cameras:
        P = torch.eye(4, dtype=torch.float64)
        if with_K:
            P[:3, :3] = torch.diag(torch.tensor([1 / WIDTH, 1 / HEIGHT, 1], dtype=torch.float64)) @ camera.K.double()
            P[:2, 2] -= 0.5
        P = P @ torch.linalg.inv(camera.camtoworld.double())
        for row in range(HEIGHT // patch):
            for column in range(WIDTH // patch):
                turns = torch.block_diag(turn(column, head_dim), turn(row, head_dim))
                tiles = [P] * (head_dim // 8)
                maps.append(
                    (
                        torch.block_diag(*(tile.T for tile in tiles), turns),
                        torch.block_diag(*(torch.linalg.inv(tile) for tile in tiles), turns),
                        torch.block_diag(*tiles, turns.T),
                    )
                )
    return maps


def turn(position: int, head_dim: int) -> Tensor:
    """Rotary matrix of a quarter of a head: feature j with the one half a quarter further, base 100."""
    num = head_dim // 8
    angle = torch.diag(position * 100.0 ** (-torch.arange(num, dtype=torch.float64) / num))
    cos, sin = torch.diag(angle.diagonal().cos()), torch.diag(angle.diagonal().sin())
    return torch.cat([torch.cat([cos, sin], dim=1), torch.cat([-sin, cos], dim=1)])


def check_images(model: KoNet, context: Views, targets: Cameras, reference, folder) -> None:
    """Compare a model, and its copy on disk, with a written-out network."""
    with torch.inference_mode():
        rendered = model(context, targets)
    for i in range(targets.batch_shape[1]):
        expected = reference(context[0], targets[0, i])
        assert expected.std() > 0.1
        torch.testing.assert_close(rendered[0, i].double(), expected, rtol=0, atol=1e-4)
    again = KoNet.from_pretrained(model.save_pretrained(folder))
    assert torch.equal(again(context, targets), model(context, targets))


@pytest.mark.parametrize(("options", "num_context"), [(dict(), 2), (dict(patch=4), 1), (dict(qk_norm=False), 3)])
def test_converted_lvsm_renders_the_same_images(make_views, make_cameras, tmp_path, options, num_context):
    state = random_state(LVSM, **SMALL | options)
    torch.save({"model": state, "optimizer": {}, "param_update_step": 3}, tmp_path / "lvsm.pt")
    converted = convert_lvsm(tmp_path / "lvsm.pt", num_heads=3)
    assert converted.left_out == ()
    patch = options.get("patch", 8)
    check_images(
        converted.model,
        make_views(1, num_context),
        make_cameras(1, 2, seed=5),
        lambda context, target: lvsm_image(state, context, target, patch=patch),
        tmp_path / "weights",
    )


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
def test_converted_prope_renders_the_same_images(
    make_views, make_cameras, tmp_path, camera_encoding, ray_code, qk_norm
):
    state = random_state(PROPE, **SMALL, qk_norm=qk_norm)
    state |= {"shared_rays": torch.randn(HEIGHT, WIDTH, 6)} if ray_code == "fixed" else {}
    tables = {"attention.coeffs_x_0": torch.zeros(1, 1, 18, 2)}
    saved = {f"module._orig_mod.{name}": tensor for name, tensor in (state | tables).items()}
    torch.save({"step": 80000, "model": saved, "optimizer": {}}, tmp_path / "step-000080000.pt")
    converted = convert_prope(
        tmp_path / "step-000080000.pt",
        camera_encoding=camera_encoding,
        ray_code=None if ray_code == "fixed" else ray_code,
        num_heads=None if qk_norm else 3,
    )
    assert converted.left_out == tuple(tables)
    assert converted.model.pose_normalization == "first"
    check_images(
        converted.model,
        make_views(1, 2),
        make_cameras(1, 2, seed=5),
        lambda context, target: prope_image(state, context, target, camera_encoding=camera_encoding, ray_code=ray_code),
        tmp_path / "weights",
    )
    if ray_code == "fixed":
        with pytest.raises(ValueError, match=r"16 x 24.*24 x 24"):
            converted.model(make_views(height=24, width=24), make_cameras(height=24, width=24))


@pytest.mark.slow  # 171 M random weights
def test_the_published_size_of_lvsm_is_converted(tmp_path):
    state = random_state(LVSM, dim=768, num_layers=24, head_dim=64, mlp_dim=3072, patch=8)
    torch.save({"model": state}, tmp_path / "scene_decoder_only_256.pt")
    model = convert_lvsm(tmp_path / "scene_decoder_only_256.pt").model
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(171e6, rel=0.01)


@pytest.mark.parametrize(
    ("prefix", "key"), [("module.", "model"), ("model.", None), ("module._orig_mod.", "state_dict")]
)
def test_prefixes_and_losses_are_removed(tmp_path, prefix, key):
    state = random_state(LVSM, **SMALL | dict(num_layers=1))
    torch.save({"model": state}, tmp_path / "plain.pt")
    loss = {"loss_computer.perceptual_loss_module.vgg.features.0.weight": torch.zeros(3)}
    wrapped = {prefix + name: tensor for name, tensor in (state | loss).items()} | {"lpips.net.weight": torch.zeros(2)}
    torch.save(wrapped if key is None else {key: wrapped, "epoch": 3}, tmp_path / "wrapped.pt")
    converted = convert_lvsm(tmp_path / "wrapped.pt")
    expected = convert_lvsm(tmp_path / "plain.pt").model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in converted.model.state_dict().items())
    assert converted.left_out == (*loss, "lpips.net.weight")


def test_half_precision_and_safetensors_are_read(tmp_path):
    state = {name: tensor.bfloat16() for name, tensor in random_state(LVSM, **SMALL | dict(num_layers=1)).items()}
    save_file(state, tmp_path / "lvsm.safetensors")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("lvsm.safetensors", "old.pt"):
        model = convert_lvsm(tmp_path / name).model
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        assert torch.equal(model.head.weight, state[LVSM["head"]].float())


class Config:
    """A class of a training script, pickled beside the weights."""


def without(name: str):
    return lambda state: {key: tensor for key, tensor in state.items() if name not in key}


LVSM_FAULTS = [
    (without(".1.attn.fc"), r"blocks\.1\.attention\.output\.weight"),
    (without("blocks.0."), r"blocks\.0"),
    (lambda state: state | {"transformer_blocks.0.attn.bias": torch.zeros(1)}, r"blocks\.0\.attn\.bias"),
    (lambda state: state | {LVSM["context"]: torch.zeros(48, 3 * 64)}, "192"),
    (lambda state: state | {LVSM["target"]: torch.zeros(48)}, r"tokenizer\.target\.weight.*48, 384"),
    (lambda state: state | {"n_light_field_latent": torch.zeros(3072, 64)}, "decoder-only"),
    (lambda _: random_state(PROPE, **SMALL), "from=prope"),
    (lambda _: KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32).state_dict(), "weights="),
    (lambda _: [torch.zeros(1)], "list"),
    (lambda _: {"epoch": 3, "args": "x"}, "epoch, args"),
    (lambda state: {"model": state, "config": Config()}, r"Config.*run code"),
    (lambda _: random_state(LVSM, **SMALL, qk_norm=False), "num_heads"),
]
PROPE_FAULTS = [
    (lambda _: random_state(PROPE, **SMALL, qk_norm=False), "num_heads"),
    (lambda state: state | {"shared_rays": torch.zeros(HEIGHT, WIDTH, 6)}, "has shared_rays.*got plucker"),
    (lambda state: state | {"encoder.layers.0.self_attn.d_proj_weight": torch.zeros(2, 48)}, "RayRoPE"),
    (without("in_norm"), r"tokenizer\.norm\.weight"),
    (lambda state: state | {"encoder.layers.0.linear1.bias": torch.zeros(40)}, r"expand\.bias"),
    (lambda _: random_state(LVSM, **SMALL), "from=lvsm"),
]


@pytest.mark.parametrize(
    ("names", "spoil", "message"),
    [*((LVSM, *fault) for fault in LVSM_FAULTS), *((PROPE, *fault) for fault in PROPE_FAULTS)],
)
def test_other_files_are_rejected(tmp_path, names, spoil, message):
    torch.save(spoil(random_state(names, **SMALL)), tmp_path / "other.pt")
    convert = convert_lvsm
    if names is PROPE:
        convert = partial(convert_prope, camera_encoding="geope", ray_code="plucker")
    with pytest.raises(ValueError, match=rf"other\.pt.*{message}"):
        convert(tmp_path / "other.pt")


def test_damaged_and_missing_files(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(path)):
            convert_lvsm(path)
    for content in (b"", b"no checkpoint at all", b"PK\x03\x04 half"):
        for name in ("broken.pt", "broken.safetensors"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match="damaged"):
                convert_lvsm(tmp_path / name)


def test_settings_that_the_file_contradicts_or_lacks(tmp_path):
    torch.save(random_state(LVSM, **SMALL), tmp_path / "lvsm.pt")
    with pytest.raises(ValueError, match=r"num_heads.*got 8"):
        convert_lvsm(tmp_path / "lvsm.pt", num_heads=8)
    torch.save(random_state(PROPE, **SMALL), tmp_path / "prope.pt")
    for options, message in (
        (dict(ray_code="plucker"), "camera_encoding.*None"),
        (dict(ray_code="plucker", camera_encoding="rope"), "camera_encoding.*prope.*rope"),
        (dict(camera_encoding="geope"), "ray_code.*None"),
        (dict(camera_encoding="geope", ray_code="none"), "ray_code.*got none"),
        (dict(camera_encoding="geope", ray_code="fixed"), "ray_code.*has no shared_rays.*got fixed"),
    ):
        with pytest.raises(ValueError, match=message):
            convert_prope(tmp_path / "prope.pt", **options)
