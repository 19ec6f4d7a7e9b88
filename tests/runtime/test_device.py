import logging
import os
import subprocess
import sys

import pytest
import torch

from wnv.runtime.device import device_title, memory_stats, resolve_device


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


@pytest.mark.slow
def test_a_device_library_that_torch_cannot_load_by_itself_keeps_no_command_from_the_cpu(tmp_path):
    """As torch_npu is where CANN is missing; tests/npu_wheel has the real one."""
    (tmp_path / "broken.py").write_text("raise ImportError('libhccl.so: cannot open shared object file')")
    metadata = tmp_path / "broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[torch.backends]\nbroken = broken:load\n")
    environment = {name: value for name, value in os.environ.items() if name != "TORCH_DEVICE_BACKEND_AUTOLOAD"}
    environment["PYTHONPATH"] = str(tmp_path)

    def errors(code):
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stderr

    assert "Failed to load the backend extension: broken" in errors("import torch")
    assert errors("import wnv.cli.app, torch") == ""


def test_a_cpu_has_no_title_and_counts_no_memory():
    assert device_title(torch.device("cpu")) is None
    assert memory_stats(torch.device("cpu")) == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named_with_the_way_out():
    with pytest.raises(ValueError, match=r"device=cuda: .* set device=cpu"):
        resolve_device("cuda")
    with pytest.raises(ValueError, match=r"device=npu: .*wnv\[npu\].* set device=cpu"):
        resolve_device("npu")


def test_an_unknown_name_is_rejected():
    with pytest.raises(ValueError, match="device must be one of auto, cpu, cuda, npu, got 'tpu'"):
        resolve_device("tpu")
