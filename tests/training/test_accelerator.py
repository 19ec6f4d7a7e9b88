import importlib.util

import pytest
from lightning.pytorch.accelerators import AcceleratorRegistry

from wnv.training.accelerator import NPUAccelerator


def test_lightning_finds_the_accelerator_by_its_name() -> None:
    assert isinstance(AcceleratorRegistry.get("npu"), NPUAccelerator)
    assert NPUAccelerator.name() == "npu"


@pytest.mark.skipif(importlib.util.find_spec("torch_npu") is not None, reason="torch_npu is there")
def test_it_is_not_there_where_torch_npu_is_not() -> None:
    assert not NPUAccelerator.is_available()
