"""Resolve devices by name, and hide their differences. The only file that names torch_npu."""

import functools
import importlib
import importlib.util
import logging
import types

import torch

log = logging.getLogger(__name__)

NAMES = ("auto", "cpu", "cuda", "npu")
# Environment variables that restrict a process to some devices.
VISIBLE_DEVICES = {"cuda": "CUDA_VISIBLE_DEVICES", "npu": "ASCEND_RT_VISIBLE_DEVICES"}


def resolve_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: `cpu`, `cuda` (NVIDIA), `npu` (Ascend), or `auto`: the first available of npu, cuda and cpu, which is
            logged.

    Raises:
        ValueError: If the name is unknown or the device is not available.
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
        raise ValueError("device=cuda: torch finds no CUDA device; set device=cpu, or device=auto")
    if name == "npu" and (reason := _why_no_npu()) is not None:
        raise ValueError(f"device=npu: {reason}; set device=cpu, or device=auto")
    return torch.device(name)


def device_module(device: torch.device) -> types.ModuleType:
    """The torch module of a device type: `torch.cpu`, `torch.cuda` or `torch.npu`, with the same interface."""
    return getattr(torch, device.type)


def device_title(device: torch.device) -> str | None:
    """The accelerator's name as reported by its driver; None for the CPU."""
    return None if device.type == "cpu" else device_module(device).get_device_name(device)


def memory_stats(device: torch.device) -> dict[str, int]:
    """Statistics of the device's allocator by torch's names (`allocated_bytes.all.peak`, ...); empty on a CPU."""
    return {} if device.type == "cpu" else dict(device_module(device).memory_stats(device))


def _why_no_npu() -> str | None:
    """Why torch has no Ascend NPU; None if it has one. Imports torch_npu, which registers the device."""
    if importlib.util.find_spec("torch_npu") is None:
        return "torch_npu is not installed (pip install 'wnv[npu]')"
    if (reason := _load_error()) is not None:
        return f"torch_npu is installed and does not load ({reason}); if CANN is missing, source its set_env.sh"
    if not device_module(torch.device("npu")).is_available():
        return f"torch_npu finds no Ascend NPU here (check npu-smi info, and {VISIBLE_DEVICES['npu']})"
    return None


@functools.cache  # a second import fails differently, on the state that the first leaves
def _load_error() -> str | None:
    logging.getLogger("torch_npu").setLevel(logging.WARNING)  # it logs environment variables
    try:
        importlib.import_module("torch_npu")
    except Exception as error:  # of any type, for example without CANN or beside CUDA
        return " ".join(str(error).split())
    return None
