"""Cores and memory of this machine, within the limits of its container."""

import os
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Microseconds of CPU time per period, or "max" for no limit.
    quota, *period = _limit("cpu.max").split()
    return min(number, max(1, int(quota) // int(period[0]))) if quota.isdigit() else number


def memory_gb() -> float:
    """Return the memory that this process may use, 10^9 bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _limit("memory.max")
    return min(total, int(limit) if limit.isdigit() else total) / 1e9


def _limit(name: str) -> str:
    file = _CONTAINER / name
    return file.read_text().strip() if file.is_file() else "max"
