import pytest
import torch

from wnv.evaluation.environment import describe_environment, fingerprint
from wnv.models.konet import KoNet


@pytest.fixture
def model():
    return KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32, patch_size=4)


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
