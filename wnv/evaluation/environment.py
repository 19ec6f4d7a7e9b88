"""Where and when numbers were made, so that they can be made again."""

import datetime
import hashlib
import platform
import subprocess
from pathlib import Path

import torch
from torch import nn

import wnv
from wnv.runtime.device import device_title


def describe_environment(device: torch.device) -> dict[str, str | None]:
    """Date (UTC), versions, git commit (`-dirty` with uncommitted changes; None outside a checkout) and device."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": wnv.__version__,
        "commit": _git_commit(),
        "torch": torch.__version__,
        "device": _device_name(device),
    }


def fingerprint(model: nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a model's tensors: names weights whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _git_commit() -> str | None:
    folder = Path(wnv.__file__).parent
    if not (folder.parent / ".git").exists():
        return None  # an installed package; a repository around it would be the user's
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


def _device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return f"cpu: {platform.machine()}, {torch.get_num_threads()} threads"
    return f"{device.type}: {device_title(device)}"
