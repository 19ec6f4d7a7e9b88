"""What every test runs under: seeded, offline, repeatable; slow tests get more time; device tests need their device."""

import importlib.util
import os

import hypothesis
import pytest
import torch

SLOW_TIMEOUT_S = 900

# No test may reach the network: a logger or a hub that tries gives an error instead of a wait.
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"

# The same examples each time, and no deadline: a shared machine pauses where it likes.
hypothesis.settings.register_profile("wnv", derandomize=True, deadline=None)
hypothesis.settings.load_profile("wnv")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {
        "gpu": pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        "npu": pytest.mark.skipif(importlib.util.find_spec("torch_npu") is None, reason="needs an Ascend NPU"),
    }
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
        for name, skip in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def seed() -> int:
    """Start each test from the same global random state; the value is there for tests that make generators."""
    torch.manual_seed(0)
    return 0
