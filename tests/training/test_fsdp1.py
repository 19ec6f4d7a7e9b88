"""What needs no second process; what does is in test_strategies.py and tests/fake_npu/test_matrix.py."""

from collections.abc import Callable

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from wnv.models.konet import KoNet
from wnv.training.fsdp1 import FlatShardedStrategy, gather_slices, plain_parameters, take_slices, whole_shape

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sharding": "full"}, "sharding must be one of FULL_SHARD, SHARD_GRAD_OP, NO_SHARD, HYBRID_SHARD, got 'full'"),
        ({"auto_wrap": "block"}, "auto_wrap must be one of layer, size, none, got 'block'"),
        ({"min_num_params": 0}, "min_num_params must be at least 1, or null, got 0"),
        ({"num_replicas": 0}, "num_replicas must be at least 1, or null, got 0"),
    ],
)
def test_settings_out_of_their_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlatShardedStrategy(**options)


@pytest.mark.parametrize(("world_size", "num_replicas"), [(1, None), (2, 2), (6, 4)])
def test_groups_of_one_process_or_of_several_sizes_are_refused(
    world_size: int, num_replicas: int | None, fake: Callable
) -> None:
    """Or a group of one process would train for itself, with gradients that nobody averages."""
    strategy = fake(
        FlatShardedStrategy, sharding="HYBRID_SHARD", num_replicas=num_replicas, num_nodes=1, world_size=world_size
    )
    with pytest.raises(ValueError, match=rf"shares {world_size} processes out to .* set another number"):
        strategy._make_mesh()


def test_what_would_be_ignored_is_told(fake: Callable) -> None:
    strategy = FlatShardedStrategy(num_replicas=2, cpu_offload=True, min_num_params=5)
    strategy.parallel_devices = [CPU]
    strategy.cluster_environment = fake(object, local_rank=lambda self: 0)
    with pytest.warns(UserWarning, match="is ignored") as told:
        strategy._warn_of_ignored()
    texts = " ".join(str(warning.message) for warning in told)
    for name in ("cpu_offload is ignored on a CPU", "num_replicas is ignored", "min_num_params is ignored"):
        assert name in texts


def test_the_plugins_of_other_strategies_serve_here() -> None:
    """So that the loss scaler stands in checkpoints under one name."""
    strategy, plugin = FlatShardedStrategy(), MixedPrecision("bf16-mixed", device="cpu")
    strategy.precision_plugin = plugin
    assert strategy.precision_plugin is plugin


def test_a_model_that_is_not_wrapped_is_whole() -> None:
    model = KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32)
    parameters = plain_parameters(model)
    assert parameters.keys() == dict(model.named_parameters()).keys()
    assert gather_slices(model, parameters) is parameters
    assert take_slices(model, parameters, parameters) is parameters
    assert all(whole_shape(parameter) == parameter.shape for parameter in parameters.values())
