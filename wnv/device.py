"""From a device's name to the device. The only file that names torch_npu."""

import importlib.util

import torch

NAMES = ("auto", "cpu", "cuda", "npu")


def resolve_device(name: str) -> torch.device:
    """The device of that name on this machine.

    Args:
        name: `cpu`, `cuda` (NVIDIA), `npu` (Ascend), or `auto`: the first of cuda and npu that is there, else the CPU.

    Raises:
        ValueError: If there is no such name, or no such device on this machine.
    """
    if name not in NAMES:
        raise ValueError(f"device must be one of {', '.join(NAMES)}, got {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "npu" if _is_npu_available() else "cpu"
    elif name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: torch finds no CUDA device here; set device=cpu, or device=auto")
    elif name == "npu" and not _is_npu_available():
        raise ValueError(
            "device=npu: torch_npu finds no Ascend NPU here, or is not installed (pip install 'wnv[npu]'); "
            "set device=cpu, or device=auto"
        )
    return torch.device(name)


def _is_npu_available() -> bool:
    if importlib.util.find_spec("torch_npu") is None:
        return False
    import torch_npu  # noqa: F401  (its import gives torch the npu device)

    return torch.npu.is_available()
