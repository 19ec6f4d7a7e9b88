"""Every network, loss and metric on the simulated NPU: no operator that a real one lacks, and the values of the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.fake_npu, pytest.mark.slow]

MODELS = {
    "plucker-geope-rope2d",
    "raymap-gta-quaternion",
    "none-geope-none",
    "camray-none-none-joint",
    "dynamic",
    "dynamic-joint-quaternion",
    "bf16",
}
OTHERS = {"perceptual", "perceptual-bf16", "lpips-vgg", "lpips-alex", "metrics", "evaluation"}
WORLDS = {"world-static", "world-dynamic"}


@pytest.fixture(scope="module")
def seen(npu_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    file = tmp_path_factory.mktemp("rooms") / "seen.json"
    command = [sys.executable, str(Path(__file__).with_name("rooms.py")), str(file)]
    done = subprocess.run(command, env=npu_environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


def test_nothing_asks_for_an_operator_that_an_npu_lacks(seen: dict[str, dict]) -> None:
    errors = {name: case["error"] for name, case in seen["cases"].items()}
    assert errors.pop("inverse") == "NotImplementedError: npu has no kernel for aten::linalg_inv_ex.inverse"
    assert errors == dict.fromkeys(MODELS | OTHERS | WORLDS)


@pytest.mark.parametrize("name", sorted(MODELS | OTHERS | WORLDS))
def test_values_and_gradients_are_those_of_the_cpu(seen: dict[str, dict], name: str) -> None:
    case = seen["cases"][name]
    assert case["is_something"]
    assert case["num_calls"] > 50
    assert case["difference"] < (0.03 if name == "bf16" else 1e-5)


def test_autocast_gives_the_formats_of_the_cpu(seen: dict[str, dict]) -> None:
    """Torch's own layer norms return float32 on an NPU, as on CUDA; ours return bfloat16."""
    npu, cpu = seen["formats"]["npu"], seen["formats"]["cpu"]
    # Accelerators join the weights of these three, and do not call the layers.
    assert {name.rpartition(".")[2] for name in cpu.keys() - npu.keys()} == {"query", "key", "value"}
    cpu = {name: cpu[name] for name in npu}
    norms = {given for given in npu.values() if "Norm" in given}
    assert norms == {"LayerNorm torch.bfloat16"}
    assert npu == cpu
