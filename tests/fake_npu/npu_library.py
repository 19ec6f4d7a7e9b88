"""Builds the simulated NPU once per state of its sources, and returns the library's path."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parent
SOURCES = (HERE / "device.cpp", HERE / "hccl.h")
NAME = "fake_npu"
FLAGS = ("-O1", "-g0", "-w", "-std=c++20", "-DUSE_DISTRIBUTED", "-DUSE_C10D_GLOO")


# Ninja may come with this environment.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def why_not() -> str | None:
    """What is missing on this machine to build it, or None."""
    missing = [name for name in (os.environ.get("CXX", "c++"), "ninja") if shutil.which(name, path=PATH) is None]
    return f"the simulated NPU cannot be built: no {' and no '.join(missing)} here" if missing else None


def library() -> Path:
    """The built library; the first call takes about a minute, later ones of this user reuse it."""
    content = b"".join(source.read_bytes() for source in (*SOURCES, Path(__file__)))
    built_for = f"{torch.__version__} {sys.implementation.cache_tag} {os.environ.get('CXX')}"
    key = hashlib.sha256(content + built_for.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wnv" / "fake_npu"
    path = cache / key / f"{NAME}.so"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # In a separate process, because building also loads, and under a unique name, because others may build too.
        with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as folder:
            command = [sys.executable, __file__, folder]
            done = subprocess.run(
                command, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"the simulated NPU does not build: {done.stdout[-4000:]}{done.stderr[-4000:]}")
            path.parent.mkdir(exist_ok=True)
            os.replace(Path(folder) / path.name, path)
    return path


if __name__ == "__main__":
    from torch.utils.cpp_extension import load

    load(NAME, [str(SOURCES[0])], build_directory=sys.argv[1], extra_cflags=list(FLAGS))
