import logging

import pytest
import torch

from wnv.device import device_title, memory_stats, resolve_device


def test_the_cpu_is_always_there():
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_is_the_best_device_of_the_machine_and_says_which(caplog):
    expected = "npu" if hasattr(torch, "npu") else "cuda" if torch.cuda.is_available() else "cpu"
    with caplog.at_level(logging.INFO):
        assert resolve_device("auto").type == expected
    assert f"device=auto: {expected}" in caplog.text


@pytest.mark.skipif(hasattr(torch, "npu"), reason="there is an NPU")
def test_an_accelerator_library_that_does_not_load_is_no_npu(monkeypatch, tmp_path, caplog):
    (tmp_path / "torch_npu.py").write_text("raise ImportError('libhccl.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_device("auto").type != "npu"
    assert "passing over NPUs: torch_npu is installed and does not load (libhccl.so" in caplog.text
    with pytest.raises(ValueError, match=r"\(libhccl.so: cannot open.*\); .* source its set_env.sh; set device=cpu"):
        resolve_device("npu")


def test_a_cpu_has_no_title_and_counts_no_memory():
    assert device_title(torch.device("cpu")) is None
    assert memory_stats(torch.device("cpu")) == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named_with_the_way_out():
    with pytest.raises(ValueError, match=r"device=cuda: .* set device=cpu"):
        resolve_device("cuda")
    with pytest.raises(ValueError, match=r"device=npu: .*wnv\[npu\].* set device=cpu"):
        resolve_device("npu")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="device must be one of auto, cpu, cuda, npu, got 'tpu'"):
        resolve_device("tpu")
