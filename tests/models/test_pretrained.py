import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from wnv.models.konet import KoNet
from wnv.models.pretrained import shipped_weights


def test_round_trip_gives_the_same_pictures(make_model, make_views, make_cameras, tmp_path):
    model = make_model(camera_encoding="gta", ray_code="plucker", time_code=True)
    again = KoNet.from_pretrained(model.save_pretrained(tmp_path / "weights"))
    assert again.config == model.config
    context, targets = make_views(), make_cameras(seed=5)
    assert torch.equal(again(context, targets), model(context, targets))
    assert not again.training


def test_a_configuration_from_before_an_argument_was_there_means_its_default(make_model, tmp_path):
    model = make_model()
    older = {name: value for name, value in model.config.items() if name not in ("activation", "input_norm")}
    assert KoNet.complete_config(older) == model.config
    folder = model.save_pretrained(tmp_path)
    (folder / "config.json").write_text(json.dumps(older))
    assert KoNet.from_pretrained(folder).config == model.config


def test_half_precision_on_disk_reads_as_float32(make_model, tmp_path):
    folder = make_model().save_pretrained(tmp_path, dtype=torch.float16)
    assert all(tensor.dtype == torch.float16 for tensor in load_file(folder / "model.safetensors").values())
    assert all(parameter.dtype == torch.float32 for parameter in KoNet.from_pretrained(folder).parameters())


def test_nothing_is_overwritten_without_overwrite(make_model, tmp_path):
    make_model(seed=1).save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make_model(seed=2).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    make_model(seed=2).save_pretrained(tmp_path, overwrite=True)
    assert (tmp_path / "model.safetensors").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_run_folder_and_checkpoint(make_model, tmp_path):
    model, average = make_model(seed=1), make_model(seed=2)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "model_config": model.config, "global_step": 4}, tmp_path / "best.ckpt")
    checkpoint = {"state_dict": state, "model_config": model.config, "global_step": 8}
    torch.save(checkpoint | {"ema_state_dict": average.state_dict()}, tmp_path / "last.ckpt")
    for source, expected in (("", average), ("best.ckpt", model)):
        loaded = KoNet.from_pretrained(tmp_path / source)
        assert loaded.config == model.config
        assert not loaded.training
        assert all(map(torch.equal, loaded.state_dict().values(), expected.state_dict().values()))


def test_missing_weights(make_model, tmp_path):
    with pytest.raises(FileNotFoundError, match="konet_imaginary"):
        KoNet.from_pretrained("konet_imaginary")
    with pytest.raises(FileNotFoundError, match=r"config\.json and model\.safetensors missing"):
        KoNet.from_pretrained(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt"):
        KoNet.from_pretrained(tmp_path)
    make_model().save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        KoNet.from_pretrained(tmp_path)


def test_loading_leaves_the_random_generator_unchanged(make_model, tmp_path):
    make_model(adaln_zero=True, ray_code="fixed", ray_size=[16, 24]).save_pretrained(tmp_path)
    before = torch.get_rng_state()
    model = KoNet.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_prope_is_geope(make_model):
    assert make_model(camera_encoding="prope").config == make_model(camera_encoding="geope").config


def change_config(folder, **change):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def drop_head(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("head.weight")
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: change_config(folder, num_layers=3), "missing, such as transformer"),
        (lambda folder: change_config(folder, colour="red"), "colour"),
        (truncate, "damaged"),
        (drop_head, r"head\.weight"),
    ],
)
def test_weights_that_do_not_match_their_configuration_are_rejected(make_model, tmp_path, spoil, message):
    spoil(make_model().save_pretrained(tmp_path))
    with pytest.raises(ValueError, match=message):
        KoNet.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", shipped_weights())
def test_shipped_weights_load(name):
    assert sum(parameter.numel() for parameter in KoNet.from_pretrained(name).parameters()) > 1000


def test_a_type_that_cannot_hold_the_values_is_rejected(make_model, tmp_path):
    model = make_model()
    torch.nn.init.constant_(model.head.weight, 1e5)
    with pytest.raises(ValueError, match=r"float16.*head\.weight"):
        model.save_pretrained(tmp_path, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
