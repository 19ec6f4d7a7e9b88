import pytest
import torch

from wnv.device import resolve_device


def test_the_cpu_is_always_there():
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_is_the_best_device_of_the_machine():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.cuda.is_available() and hasattr(torch, "npu"):
        expected = "npu"
    assert resolve_device("auto").type == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named_with_the_way_out():
    with pytest.raises(ValueError, match=r"device=cuda: .* set device=cpu"):
        resolve_device("cuda")
    with pytest.raises(ValueError, match=r"device=npu: .*wnv\[npu\].* set device=cpu"):
        resolve_device("npu")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="device must be one of auto, cpu, cuda, npu, got 'tpu'"):
        resolve_device("tpu")
