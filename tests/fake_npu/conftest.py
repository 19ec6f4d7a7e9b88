"""The simulated NPU for tests: processes with its folder first in their path import a working torch_npu."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def npu_environment() -> dict[str, str]:
    """Variables under which a process has two simulated NPUs; builds them the first time (about 40 s)."""
    spec = importlib.util.spec_from_file_location("npu_library", HERE / "npu_library.py")
    npu_library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(npu_library)
    if (reason := npu_library.why_not()) is not None:
        pytest.skip(reason)
    npu_library.library()
    launched = ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PYTHONPATH", "FAKE_NPU_DEVICES")
    inherited = {name: value for name, value in os.environ.items() if name not in launched}
    return inherited | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def on_npu(npu_environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python with the given arguments on the simulated NPU, in the test's own folder."""

    def run(*arguments: str, timeout: float = 250, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=npu_environment | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
