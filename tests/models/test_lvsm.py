"""Converted LVSM checkpoints render the same images as LVSM's network, written out here in float64."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wnv.models.konet import KoNet
from wnv.models.lvsm import convert_lvsm
from wnv.types import Cameras, Views

SMALL = dict(dim=64, num_layers=3, head_dim=16, mlp_dim=256, patch=8)
PUBLISHED = dict(dim=768, num_layers=24, head_dim=64, mlp_dim=3072, patch=8)  # LVSM_scene_decoder_only.yaml


def lvsm_state(*, dim: int, num_layers: int, head_dim: int, mlp_dim: int, patch: int, qk_norm: bool = True) -> dict:
    """Random weights under the names and in the shapes of LVSM_scene_decoder_only.py."""

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns) * columns**-0.5

    def norm(size: int) -> Tensor:
        return 1 + 0.3 * torch.randn(size)

    state = {
        "image_tokenizer.1.weight": matrix(dim, 9 * patch**2),
        "target_pose_tokenizer.1.weight": matrix(dim, 6 * patch**2),
        "transformer_input_layernorm.weight": norm(dim),
        "image_token_decoder.0.weight": norm(dim),
        "image_token_decoder.1.weight": matrix(3 * patch**2, dim),
    }
    for i in range(num_layers):
        block = f"transformer_blocks.{i}."
        state |= {f"{block}norm1.weight": norm(dim), f"{block}norm2.weight": norm(dim)}
        state |= {f"{block}attn.to_qkv.weight": matrix(3 * dim, dim), f"{block}attn.fc.weight": matrix(dim, dim)}
        state |= {f"{block}mlp.mlp.0.weight": matrix(mlp_dim, dim), f"{block}mlp.mlp.2.weight": matrix(dim, mlp_dim)}
        if qk_norm:
            # So small that the eps of the norms matters.
            state[f"{block}attn.to_qkv.weight"][: 2 * dim] *= 3e-3
            state |= {f"{block}attn.q_norm.weight": norm(head_dim), f"{block}attn.k_norm.weight": norm(head_dim)}
    return state


def lvsm_image(state: dict[str, Tensor], views: Views, target: Cameras, *, head_dim: int) -> Tensor:
    """One target image of one scene (no batch axes but `view`) by LVSM's network, step by step, in float64."""
    state = {name: tensor.double() for name, tensor in state.items()}
    patch = round((state["target_pose_tokenizer.1.weight"].shape[1] / 6) ** 0.5)
    tokens = []
    for i in range(len(views.images)):
        rays = lvsm_rays(views.cameras.K[i], views.cameras.camtoworld[i], target.height, target.width)
        pixels = torch.cat([views.images[i].double().permute(1, 2, 0) * 2 - 1, rays], dim=-1)
        tokens += [cut @ state["image_tokenizer.1.weight"].T for cut in patches_of(pixels, patch)]
    rays = lvsm_rays(target.K, target.camtoworld, target.height, target.width)
    tokens += [cut @ state["target_pose_tokenizer.1.weight"].T for cut in patches_of(rays, patch)]
    x = layer_norm(torch.stack(tokens), state["transformer_input_layernorm.weight"])
    for i in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))):
        w = {name.split(".", 2)[2]: tensor for name, tensor in state.items() if name.split(".")[1] == str(i)}
        x = x + attend(layer_norm(x, w["norm1.weight"]), w, head_dim=head_dim)
        hidden = layer_norm(x, w["norm2.weight"]) @ w["mlp.mlp.0.weight"].T
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        x = x + hidden @ w["mlp.mlp.2.weight"].T
    rows, columns = target.height // patch, target.width // patch
    x = layer_norm(x[-rows * columns :], state["image_token_decoder.0.weight"])
    pixels = 1 / (1 + torch.exp(-(x @ state["image_token_decoder.1.weight"].T)))
    image = torch.zeros(target.height, target.width, 3, dtype=torch.float64)
    for number, token in enumerate(pixels):
        top, left = number // columns * patch, number % columns * patch
        image[top : top + patch, left : left + patch] = token.reshape(patch, patch, 3)
    return image.permute(2, 0, 1)


def lvsm_rays(K: Tensor, camtoworld: Tensor, height: int, width: int) -> Tensor:
    """Moment o x d and direction d of each pixel's ray, `height width 6`."""
    rays = torch.zeros(height, width, 6, dtype=torch.float64)
    (fx, _, cx), (_, fy, cy), _ = K.double()
    origin = camtoworld[:3, 3].double()
    for row in range(height):
        for column in range(width):
            there = torch.stack([(column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy, torch.ones_like(fx)])
            direction = camtoworld[:3, :3].double() @ there
            direction = direction / direction.square().sum().sqrt()
            rays[row, column] = torch.cat([torch.linalg.cross(origin, direction), direction])
    return rays


def patches_of(pixels: Tensor, patch: int) -> list[Tensor]:
    """Patches in row-major order; their pixels are in row-major order too, with the channels of a pixel together."""
    height, width = pixels.shape[:2]
    return [
        pixels[top : top + patch, left : left + patch].reshape(-1)
        for top in range(0, height, patch)
        for left in range(0, width, patch)
    ]


def layer_norm(x: Tensor, weight: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def attend(x: Tensor, w: dict[str, Tensor], *, head_dim: int) -> Tensor:
    query, key, value = (x @ w["attn.to_qkv.weight"].T).chunk(3, dim=-1)
    heads = []
    for start in range(0, query.shape[-1], head_dim):
        q, k, v = (part[:, start : start + head_dim] for part in (query, key, value))
        if "attn.q_norm.weight" in w:
            q = q / (q.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["attn.q_norm.weight"]
            k = k / (k.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["attn.k_norm.weight"]
        heads.append(torch.softmax(q @ k.T / head_dim**0.5, dim=-1) @ v)
    return torch.cat(heads, dim=-1) @ w["attn.fc.weight"].T


def assert_same_images(model: KoNet, state: dict[str, Tensor], context: Views, targets: Cameras, head_dim: int) -> None:
    with torch.inference_mode():
        rendered = model(context, targets)
    for i in range(targets.batch_shape[1]):
        expected = lvsm_image(state, context[0], targets[0, i], head_dim=head_dim)
        assert expected.std() > 0.1
        torch.testing.assert_close(rendered[0, i].double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("options", "num_context"), [(dict(), 2), (dict(patch=4), 1), (dict(qk_norm=False), 3)])
def test_converted_checkpoint_renders_the_same_images(make_views, make_cameras, tmp_path, options, num_context):
    state = lvsm_state(**SMALL | options)
    torch.save({"model": state, "optimizer": {}, "param_update_step": 3}, tmp_path / "lvsm.pt")
    converted = convert_lvsm(tmp_path / "lvsm.pt", num_heads=4)
    assert converted.left_out == ()
    config = converted.model.config
    assert (config["attention"], config["camera_encoding"], config["patch_encoding"]) == ("joint", "none", "none")
    context, targets = make_views(1, num_context), make_cameras(1, 2, seed=5)
    assert_same_images(converted.model, state, context, targets, head_dim=16)
    again = KoNet.from_pretrained(converted.model.save_pretrained(tmp_path / "weights"))
    assert torch.equal(again(context, targets), converted.model(context, targets))


@pytest.mark.slow
def test_published_size_renders_the_same_images(make_views, make_cameras, tmp_path):
    state = lvsm_state(**PUBLISHED)
    torch.save({"model": state}, tmp_path / "scene_decoder_only_256.pt")
    model = convert_lvsm(tmp_path / "scene_decoder_only_256.pt").model
    (tmp_path / "scene_decoder_only_256.pt").unlink()
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(171e6, rel=0.01)
    assert_same_images(model, state, make_views(1, 2), make_cameras(1, 1, seed=5), head_dim=64)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module._orig_mod.", "model.module."])
@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_prefixes_and_losses_are_removed(tmp_path, prefix, key):
    state = lvsm_state(**SMALL | dict(num_layers=1))
    torch.save({"model": state}, tmp_path / "plain.pt")
    loss = {"loss_computer.perceptual_loss_module.vgg.features.0.weight": torch.zeros(3)}
    wrapped = {prefix + name: tensor for name, tensor in (state | loss).items()} | {"lpips.net.weight": torch.zeros(2)}
    torch.save(wrapped if key is None else {key: wrapped, "epoch": 3}, tmp_path / "wrapped.pt")
    converted = convert_lvsm(tmp_path / "wrapped.pt")
    expected = convert_lvsm(tmp_path / "plain.pt").model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in converted.model.state_dict().items())
    assert converted.left_out == (*loss, "lpips.net.weight")


def test_half_precision_and_safetensors_are_read(tmp_path):
    state = {name: tensor.bfloat16() for name, tensor in lvsm_state(**SMALL | dict(num_layers=1)).items()}
    save_file(state, tmp_path / "lvsm.safetensors")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("lvsm.safetensors", "old.pt"):
        model = convert_lvsm(tmp_path / name).model
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        assert torch.equal(model.head.weight, state["image_token_decoder.1.weight"].float())


class Config:
    """A class of a training script, pickled beside the weights."""


def spoil(change: str) -> object:
    state = lvsm_state(**SMALL | dict(num_layers=2))
    if change == "missing":
        del state["transformer_blocks.1.attn.fc.weight"]
    elif change == "gap":
        state = {name: tensor for name, tensor in state.items() if not name.startswith("transformer_blocks.0.")}
    elif change == "unexpected":
        state["transformer_blocks.0.attn.bias"] = torch.zeros(1)
    elif change == "shape":
        state["image_tokenizer.1.weight"] = torch.zeros(64, 3 * 64)
    elif change == "scalar":
        state["target_pose_tokenizer.1.weight"] = torch.zeros(64)
    elif change == "encoder-decoder":
        state["n_light_field_latent"] = torch.zeros(3072, 64)
    elif change == "prope":
        state = {"input_tokenizer.weight": torch.zeros(1), "query_tokenizer.weight": torch.zeros(1)}
    elif change == "konet":
        state = KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32).state_dict()
    elif change == "list":
        return [torch.zeros(1)]
    elif change == "empty":
        return {"epoch": 3, "args": "x"}
    elif change == "object":
        return {"model": state, "config": Config()}
    return {"model": state}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"blocks\.1\.attention\.output\.weight"),
        ("gap", r"blocks\.0"),
        ("unexpected", r"blocks\.0\.attn\.bias"),
        ("shape", "192"),
        ("scalar", r"tokenizer\.target\.weight.*64, 384"),
        ("encoder-decoder", "decoder-only"),
        ("prope", "from=prope"),
        ("konet", "weights="),
        ("list", "list"),
        ("empty", "epoch, args"),
        ("object", r"Config.*run code"),
    ],
)
def test_other_files_are_rejected(tmp_path, change, message):
    torch.save(spoil(change), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"other\.pt.*{message}"):
        convert_lvsm(tmp_path / "other.pt")


def test_damaged_and_missing_files(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(path)):
            convert_lvsm(path)
    for content in (b"", b"no checkpoint at all", b"PK\x03\x04 half"):
        for name in ("broken.pt", "broken.safetensors"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match="damaged"):
                convert_lvsm(tmp_path / name)


def test_number_of_heads(tmp_path):
    torch.save(lvsm_state(**SMALL, qk_norm=False), tmp_path / "plain.pt")
    with pytest.raises(ValueError, match="num_heads"):
        convert_lvsm(tmp_path / "plain.pt")
    torch.save(lvsm_state(**SMALL), tmp_path / "normed.pt")
    with pytest.raises(ValueError, match=r"num_heads.*got 8"):
        convert_lvsm(tmp_path / "normed.pt", num_heads=8)
