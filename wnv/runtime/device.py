"""From a device's name to the device, and what differs between devices. The only file that names torch_npu."""

import functools
import importlib
import importlib.util
import logging
import types

import torch

log = logging.getLogger(__name__)

NAMES = ("auto", "cpu", "cuda", "npu")
# The variable by which a process is shown some of a machine's devices only.
VISIBLE_DEVICES = {"cuda": "CUDA_VISIBLE_DEVICES", "npu": "ASCEND_RT_VISIBLE_DEVICES"}


def resolve_device(name: str) -> torch.device:
    """The device of that name on this machine.

    Args:
        name: `cpu`, `cuda` (NVIDIA), `npu` (Ascend), or `auto`: the first of npu and cuda that is there, else the CPU;
            which one it is, is logged.

    Raises:
        ValueError: If there is no such name, or no such device on this machine.
    """
    if name not in NAMES:
        raise ValueError(f"device must be one of {', '.join(NAMES)}, got {name!r}")
    if name == "auto":
        reason = _why_no_npu()
        found = "npu" if reason is None else "cuda" if torch.cuda.is_available() else "cpu"
        if reason is not None and importlib.util.find_spec("torch_npu") is not None:
            log.warning("device=auto: %s, passing over NPUs: %s", found, reason)
        else:
            log.info("device=auto: %s", found)
        return torch.device(found)
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: torch finds no CUDA device here; set device=cpu, or device=auto")
    if name == "npu" and (reason := _why_no_npu()) is not None:
        raise ValueError(f"device=npu: {reason}; set device=cpu, or device=auto")
    return torch.device(name)


def device_module(device: torch.device) -> types.ModuleType:
    """What torch has for devices of that type: `torch.cpu`, `torch.cuda` or `torch.npu`, of one interface."""
    return getattr(torch, device.type)


def device_title(device: torch.device) -> str | None:
    """The name of an accelerator as its driver tells it; None for the CPU."""
    return None if device.type == "cpu" else device_module(device).get_device_name(device)


def memory_stats(device: torch.device) -> dict[str, int]:
    """What the device's allocator counts, by torch's names (`allocated_bytes.all.peak`, ...); nothing on a CPU."""
    return {} if device.type == "cpu" else dict(device_module(device).memory_stats(device))


def _why_no_npu() -> str | None:
    """Why there is no Ascend NPU for torch; None where there is one. Importing torch_npu gives torch the device."""
    if importlib.util.find_spec("torch_npu") is None:
        return "torch_npu finds no Ascend NPU here, or is not installed (pip install 'wnv[npu]')"
    if (reason := _load_error()) is not None:
        return f"torch_npu is installed and does not load ({reason}); if CANN is what it lacks, source its set_env.sh"
    if not torch.npu.is_available():
        return f"torch_npu finds no Ascend NPU here (check npu-smi info, and {VISIBLE_DEVICES['npu']})"
    return None


@functools.cache  # a second attempt fails on what the first has left behind
def _load_error() -> str | None:
    logging.getLogger("torch_npu").setLevel(logging.WARNING)  # it logs every variable that is read, keys included
    try:
        importlib.import_module("torch_npu")
    except Exception as error:  # without CANN, with half of it, and beside CUDA: it raises whatever it likes
        return " ".join(str(error).split())
    return None
