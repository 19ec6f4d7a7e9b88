"""The environment in which scores are measured, for reproduction: versions, device, memory, weights."""

import datetime
import hashlib
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import nn

import wnv
from wnv.runtime.device import device_title, memory_stats


def describe_environment(device: torch.device) -> dict[str, str | None]:
    """Date (UTC), versions, git commit (`-dirty` with uncommitted changes; None outside a checkout) and device."""
    if device.type == "cpu":
        title = f"cpu: {platform.machine()}, {torch.get_num_threads()} threads"
    else:
        title = f"{device.type}: {device_title(device)}"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": wnv.__version__,
        "commit": _git_commit(),
        "torch": torch.__version__,
        "device": title,
    }


def peak_memory(device: torch.device) -> dict[str, Any]:
    """Peak memory of this process: `bytes`, and `of`, what was measured."""
    if device.type != "cpu":
        return {
            "bytes": memory_stats(device).get("allocated_bytes.all.peak", 0),
            "of": f"allocated on the {device.type} device",
        }
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
    return {"bytes": 1024 * kilobytes, "of": "resident in the process, libraries included"}


def fingerprint(model: nn.Module) -> str:
    """The first 16 hex digits of the SHA-256 of a model's tensors: identifies weights regardless of their file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _git_commit() -> str | None:
    folder = Path(wnv.__file__).parent
    if not (folder.parent / ".git").exists():
        return None  # an installed package: a surrounding repository would be the user's
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
