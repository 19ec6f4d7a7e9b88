"""Run programs of several processes that communicate over gloo or HCCL, each with its rank in the environment."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import SystemRandom

# Variables that an outer launcher may have set.
_PLACE = ("RANK", "WORLD_SIZE", "GROUP_RANK", "PL_GLOBAL_SEED")
_QUIET_PORTS = range(25000, 32000)  # Linux's ephemeral ports are 32768 to 60999


def free_ports(number: int) -> list[int]:
    """Return this many different free ports of this machine.

    They are outside the ephemeral range: some time passes before they are used, and meanwhile the connections of other
    processes could take an ephemeral port.
    """
    ports = []
    for port in SystemRandom().sample(_QUIET_PORTS, len(_QUIET_PORTS)):
        with socket.socket() as server:
            try:
                server.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == number:
            return ports
    raise RuntimeError(f"no {number} free ports in {_QUIET_PORTS}")


def run_together(
    program: Path,
    arguments: Sequence[str],
    *,
    num_processes: int = 2,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 300.0,
) -> None:
    """Run a program once per process, with LOCAL_RANK in its environment, and check that all succeed."""
    kept = {name: value for name, value in (environment or os.environ).items() if name not in _PLACE}
    kept |= {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env=kept | {"LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(num_processes)
    ]
    try:
        outputs = [process.communicate(timeout=timeout_s)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert {process.returncode for process in processes} == {0}, "\n".join(outputs)[-6000:]
