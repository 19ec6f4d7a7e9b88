"""Simulates Ascend's torch_npu if this folder is on PYTHONPATH: `import torch_npu` adds the device `npu` to torch.

The device uses host memory (device.cpp), and its process group `hccl` uses gloo (hccl.h). It tests the code paths to an
NPU and what an NPU rejects, not the kernels, numbers, speed and memory of a real one.

FAKE_NPU_DEVICES is the number of devices (default 2).
"""

import importlib.util
import types
from pathlib import Path

import npu_library
import torch
import torch.distributed as dist


def _load() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(npu_library.NAME, npu_library.library())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_C = _load()


def _index(device: torch.device | str | int | None) -> int:
    if device is None:
        return _C.current_device()
    index = device if isinstance(device, int) else torch.device(device).index
    return _C.current_device() if index is None else index


class Stream(torch.Stream):
    def __new__(cls, device: torch.device | None = None, **options: object) -> "Stream":
        return super().__new__(cls, device=torch.device("npu", _index(device)), **options)


class Event(torch.Event):
    def __new__(cls, enable_timing: bool = False, **options: object) -> "Event":
        return super().__new__(cls, device="npu", enable_timing=enable_timing)


class StreamContext:
    """A stream; all work of the device is synchronous."""

    def __init__(self, stream: torch.Stream | None) -> None:
        if stream is not None and stream.device.type != "npu":
            raise TypeError(f"expected a stream of the NPU, got {stream}")

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class DeviceContext:
    def __init__(self, device: torch.device | int | None) -> None:
        self.index = _index(device)

    def __enter__(self) -> None:
        self.before = _C.current_device()
        _C.set_device(self.index)

    def __exit__(self, *error: object) -> None:
        _C.set_device(self.before)


def _memory_stats(device: torch.device | None = None) -> dict[str, int]:
    current, peak = _C.memory(_index(device))
    return {"allocated_bytes.all.current": current, "allocated_bytes.all.peak": peak}


def _generators() -> list[torch.Generator]:
    return [_C.default_generator(index) for index in range(_C.device_count())]


def _device_module() -> types.ModuleType:
    """`torch.npu`, as far as torch, Lightning and wnv use it."""
    module = types.ModuleType("torch.npu")
    module.is_available = lambda: _C.device_count() > 0
    module.is_initialized = lambda: True
    module.init = module._lazy_init = lambda: None
    module._is_in_bad_fork = lambda: False
    module.device_count = _C.device_count
    module.current_device = _C.current_device
    module.set_device = lambda device: _C.set_device(_index(device))
    module.get_device_name = lambda device=None: "simulated NPU"
    module.synchronize = lambda device=None: None
    module.empty_cache = lambda: None
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    module.is_bf16_supported = lambda: True
    module.manual_seed = lambda seed: _C.default_generator(_C.current_device()).manual_seed(seed)
    module.manual_seed_all = lambda seed: [generator.manual_seed(seed) for generator in _generators()]
    module.get_rng_state = lambda device=None: _C.default_generator(_index(device)).get_state()
    module.set_rng_state = lambda state, device=None: _C.default_generator(_index(device)).set_state(state)
    module.get_rng_state_all = lambda: [generator.get_state() for generator in _generators()]
    module.set_rng_state_all = lambda states: [g.set_state(s) for g, s in zip(_generators(), states, strict=True)]
    module.memory_allocated = lambda device=None: _memory_stats(device)["allocated_bytes.all.current"]
    module.max_memory_allocated = lambda device=None: _memory_stats(device)["allocated_bytes.all.peak"]
    module.memory_stats = _memory_stats
    module.Stream, module.Event, module.stream, module.device = Stream, Event, StreamContext, DeviceContext
    module.current_stream = module.default_stream = Stream
    module.num_calls = _C.num_calls  # calls per operator; not in the real torch_npu
    return module


def _make_hccl(store: dist.Store, rank: int, size: int, timeout: object) -> dist.ProcessGroup:
    gloo = dist.ProcessGroupGloo(dist.PrefixStore("fake_hccl", store), rank, size, timeout)
    return _C.make_hccl(gloo, rank, size)


_lines = (Path(__file__).parent / "no_npu_kernel_ops.txt").read_text().splitlines()
_C.deny({line for line in _lines if not line.startswith("#")}, True)
torch.utils.rename_privateuse1_backend("npu")
torch._register_device_module("npu", _device_module())
torch.utils.generate_methods_for_privateuse1_backend(
    for_tensor=True, for_module=True, for_packed_sequence=True, for_storage=True
)
dist.Backend.register_backend("hccl", _make_hccl, devices=["npu"])
