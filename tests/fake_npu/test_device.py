"""Properties of the simulated NPU, and that wnv recognises it as an NPU."""

import json
from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.fake_npu, pytest.mark.timeout(300)]  # the first of them builds it

MANNERS = """
import json
import torch
from wnv.runtime.device import device_module, device_title, memory_stats, resolve_device

device = resolve_device("npu")
auto = resolve_device("auto").type

def error(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]

x = torch.ones(3, 4, device=device)
torch.manual_seed(3)
sampled = torch.randn(2, device=device).tolist()
torch.manual_seed(3)
state = torch.get_rng_state()
again = torch.randn(2, device=device).tolist()
with torch.autocast("npu", dtype=torch.bfloat16):
    low = (x @ x.mT).dtype
print(json.dumps({
    "auto": auto,
    "title": device_title(device),
    "memory": memory_stats(device)["allocated_bytes.all.current"] > 0,
    "sum": float((x @ x.mT).sum()),
    "same": sampled == again,
    "own_generator": bool((state == torch.get_rng_state()).all()),
    "low": str(low),
    "float64": error(lambda: x.double()),
    "inverse": error(lambda: torch.linalg.inv(torch.ones(2, 2, device=device))),
    "mixed": error(lambda: x + torch.ones(3, 4)),
    "ran": device_module(device).num_calls()["aten::mm.out"],
}))
"""

ACCELERATOR = """
import json
import lightning as L
import torch
from wnv.runtime.device import resolve_device
from wnv.training.accelerator import NPUAccelerator
from wnv.training.strategies import resolve_strategy

device = resolve_device("npu")

def error(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except ValueError as error:
        return str(error)

def settle(strategy, devices):
    settled = resolve_strategy(strategy, device=device, devices=devices, num_nodes=1)
    return type(settled).__name__, str(getattr(settled, "root_device", "")) if devices != 2 else ""

print(json.dumps({
    "parsed": [NPUAccelerator.parse_devices(devices) for devices in (1, "auto", -1, "1", "0,1", [1])],
    "refused": [error(NPUAccelerator.parse_devices, devices) for devices in (3, 0, "0,0", "two", [2])],
    "settled": [settle("auto", 1), settle("auto", [1]), settle("auto", 2)],
    "named": error(resolve_strategy, "ddp", device=device, devices=2, num_nodes=1),
    "left_out": error(lambda: L.Trainer(accelerator="npu", devices=1).strategy.setup_environment()),
}))
"""


def test_the_device_has_the_manners_of_one(on_npu: Callable) -> None:
    done = on_npu("-c", MANNERS)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["auto"] == "npu"
    assert seen["title"] == "simulated NPU"
    assert seen["memory"] is seen["same"] is seen["own_generator"] is True
    assert seen["sum"] == 36.0
    assert seen["low"] == "torch.bfloat16"
    assert seen["float64"] == "RuntimeError: npu does not support float64"
    assert seen["inverse"] == "NotImplementedError: npu has no kernel for aten::linalg_inv_ex.inverse"
    assert seen["mixed"].startswith("RuntimeError: Expected all tensors to be on the same device")
    assert seen["ran"] >= 2


@pytest.mark.slow
def test_devices_and_strategies_are_those_of_the_npu(on_npu: Callable) -> None:
    done = on_npu("-c", ACCELERATOR)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["parsed"] == [[0], [0, 1], [0, 1], [0], [0, 1], [1]]
    for message in seen["refused"]:
        assert message.startswith("trainer.devices must be a number of NPUs")
    assert seen["settled"] == [
        ["SingleDeviceStrategy", "npu:0"],
        ["SingleDeviceStrategy", "npu:1"],
        ["DataParallelStrategy", ""],
    ]
    assert "trainer.strategy=ddp" in seen["named"]
    assert "trainer.strategy must put the network on an NPU, got cpu" in seen["left_out"]


def test_no_npu_is_visible_where_none_is_shown(on_npu: Callable) -> None:
    done = on_npu("-c", "from wnv.runtime.device import resolve_device; resolve_device('npu')", FAKE_NPU_DEVICES="0")
    assert "torch_npu finds no Ascend NPU here (check npu-smi info, and ASCEND_RT_VISIBLE_DEVICES)" in done.stderr
    assert "set device=cpu, or device=auto" in done.stderr
