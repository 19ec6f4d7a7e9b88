import pytest
import torch

from wnv.evaluation.environment import describe_environment, fingerprint
from wnv.evaluation.weights import open_weights
from wnv.models.konet import KoNet


@pytest.fixture
def model():
    return KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32, patch_size=4)


def test_a_folder_of_saved_weights_and_a_checkpoint_open_to_the_same_model(tmp_path, model):
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "run").mkdir()
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "model_config": model.config}, tmp_path / "run" / "last.ckpt")
    for source in (tmp_path / "saved", tmp_path / "run", str(tmp_path / "run" / "last.ckpt")):
        opened = open_weights(source)
        assert fingerprint(opened) == fingerprint(model)
        assert not opened.training


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at 'konet_huge'"):
        open_weights("konet_huge")
    with pytest.raises(FileNotFoundError, match=r"no weights in .*: the folder is empty; give the folder of a run"):
        open_weights(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        open_weights(tmp_path)


def test_the_fingerprint_follows_the_tensors_and_nothing_else(model):
    before = fingerprint(model)
    assert before == fingerprint(model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert fingerprint(model) != before


def test_provenance_says_when_where_and_with_what():
    made = describe_environment(torch.device("cpu"))
    assert made["date"].endswith("+00:00")
    assert made["version"]
    assert made["device"].startswith("cpu")
    assert made["commit"] is None or len(made["commit"].removesuffix("-dirty")) == 12
