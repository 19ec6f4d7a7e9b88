"""Ascend NPUs for Lightning; importing this module registers `Trainer(accelerator="npu")`."""

# torch_npu adds `torch.npu`.
# pyright: reportAttributeAccessIssue=false

from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from typing_extensions import override

from wnv.runtime.device import VISIBLE_DEVICES, memory_stats, resolve_device


class NPUAccelerator(Accelerator):
    """One process per NPU; `devices` is a number, `auto` or -1 for all, or indices (`[0, 2]`, `"0,2"`)."""

    @override
    def setup_device(self, device: torch.device) -> None:
        if device.type != "npu":  # for a single device of an unknown type, Lightning chooses the CPU
            raise ValueError(f"trainer.strategy must put the network on an NPU, got {device}; set strategy=auto")
        torch.npu.set_device(device)

    @override
    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        return memory_stats(device)

    @override
    def teardown(self) -> None:
        torch.npu.empty_cache()

    @staticmethod
    @override
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """Resolve `trainer.devices` to NPU indices.

        Raises:
            ValueError: If they are not available.
        """
        num_devices = torch.npu.device_count()
        try:
            chosen = _indices(devices, num_devices=num_devices)
        except ValueError:
            chosen = []
        if not chosen or len({*chosen}) < len(chosen) or not all(0 <= index < num_devices for index in chosen):
            raise ValueError(
                f"trainer.devices must be a number of NPUs, indices of them, or auto, got {devices!r} with "
                f"{num_devices} visible NPUs (see {VISIBLE_DEVICES['npu']})"
            )
        return chosen

    @staticmethod
    @override
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        return [torch.device("npu", index) for index in devices]

    @staticmethod
    @override
    def auto_device_count() -> int:
        return torch.npu.device_count()

    @staticmethod
    @override
    def is_available() -> bool:
        try:
            return resolve_device("npu").type == "npu"
        except ValueError:
            return False

    @staticmethod
    @override
    def name() -> str:
        return "npu"


def _indices(devices: int | str | list[int], *, num_devices: int) -> list[int]:
    if isinstance(devices, str) and "," in devices:
        return [int(index) for index in devices.split(",") if index.strip()]
    if isinstance(devices, list | tuple):
        return [int(index) for index in devices]
    count = num_devices if devices in ("auto", "-1", -1) else int(devices)
    return list(range(count))


AcceleratorRegistry.register("npu", NPUAccelerator, description="Ascend NPU", override=True)
