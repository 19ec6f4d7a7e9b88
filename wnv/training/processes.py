"""Who starts the processes of a run, and what these must agree on before they can talk to each other."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from torch.distributed import TCPStore
from typing_extensions import override

from wnv.runtime.device import device_module

_STAMP_KEY = "wnv/run_stamp"


@dataclass(frozen=True)
class Launch:
    """Processes of a run that were started from outside, each with this command.

    Attributes:
        launcher: `torchrun` or `Slurm`.
        num_processes: Of the run, on all machines.
        num_nodes: Machines.
    """

    launcher: str
    num_processes: int
    num_nodes: int


class SlurmTasks(SLURMEnvironment):
    """One process for each task of `srun`.

    Lightning's would put the job back into the queue by itself, save a file of its own for that, and refuse `--ntasks`.
    """

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    @staticmethod
    @override
    def _validate_srun_variables() -> None:
        """Nothing: `check_launch` compares the numbers."""

    @override
    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Nothing: `check_launch` compares the numbers."""


def find_launch() -> Launch | None:
    """How this process was started from outside; None where it starts the others of its run, or was started by one.

    A Slurm job of one task, or a command in a Slurm job that `srun` did not start, starts its processes itself.

    Raises:
        ValueError: If it is one of several that know nothing of each other.
    """
    environment = os.environ
    num_tasks = int(environment.get("SUBMITIT_LOCAL_NTASKS", 1))
    if num_tasks > 1:
        raise ValueError(
            f"submitit starts {num_tasks} tasks a job here that cannot find each other; set "
            "hydra.launcher.tasks_per_node=1: a job's task starts the processes for its devices itself"
        )
    if TorchElasticEnvironment.detect():
        num_nodes = int(environment.get("GROUP_WORLD_SIZE", 1))
        return Launch("torchrun", num_processes=int(environment["WORLD_SIZE"]), num_nodes=num_nodes)
    is_step = "SLURM_STEP_ID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive")
    if is_step and int(environment.get("SLURM_NTASKS", 1)) > 1:
        num_nodes = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or 1
        return Launch("Slurm", num_processes=int(environment["SLURM_NTASKS"]), num_nodes=int(num_nodes))
    return None


def cluster_environment(launch: Launch | None) -> ClusterEnvironment | None:
    """What Lightning is to use; None leaves the choice to it."""
    if launch is None:
        return LightningEnvironment() if "SLURM_NTASKS" in os.environ else None
    return SlurmTasks() if launch.launcher == "Slurm" else TorchElasticEnvironment()


def count_devices(devices: int | str | Sequence[int] | None, device: torch.device) -> int:
    """How many devices of this machine `trainer.devices` means: a number, indices, or `auto` and -1 for all.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(devices, str) and "," in devices:
        return len([index for index in devices.split(",") if index.strip()])
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    if devices in ("auto", "-1", -1):
        return 1 if device.type == "cpu" else device_module(device).device_count()
    try:
        number = int(devices)  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError):
        number = 0
    if number < 1:
        raise ValueError(f"trainer.devices must be a number of devices, indices of them, or auto, got {devices!r}")
    return number


def check_launch(
    launch: Launch | None, *, num_devices: int, num_nodes: int, is_run_dir_given: bool, is_sweep: bool
) -> None:
    """Refuse numbers that are not those of the processes that there are, or that would wait for others for ever.

    Args:
        launch: How this process was started.
        num_devices: Devices of each machine, `trainer.devices`.
        num_nodes: Machines, `trainer.num_nodes`.
        is_run_dir_given: Whether the folder of the run was named by the user.
        is_sweep: Whether this process runs several jobs one after the other.

    Raises:
        ValueError: With what to set instead.
    """
    if launch is None:
        if is_sweep and num_devices * num_nodes > 1:
            raise ValueError(
                f"a sweep (-m) runs its jobs in one process, got {num_devices} devices a job on {num_nodes} machines, "
                "of which each would repeat the sweep; set trainer.devices=1, or start every job by itself"
            )
        if num_nodes > 1:
            _check_own_nodes(num_nodes, is_run_dir_given=is_run_dir_given)
        return
    if is_sweep and launch.num_processes > 1 and "SUBMITIT_EXECUTOR" not in os.environ:
        raise ValueError(
            f"a sweep (-m) starts the processes of its jobs itself, got {launch.num_processes} started by "
            f"{launch.launcher}, of which each would repeat the sweep; start wnv-train -m by itself"
        )
    if (num_devices * num_nodes, num_nodes) != (launch.num_processes, launch.num_nodes):
        each, rest = divmod(launch.num_processes, launch.num_nodes)
        way_out = (
            f"start as many on each, or set trainer.devices={each} trainer.num_nodes={launch.num_nodes}"
            if not rest
            else "start as many processes on each machine"
        )
        raise ValueError(
            f"trainer.devices x trainer.num_nodes must be the processes that {launch.launcher} started, "
            f"{launch.num_processes} on {launch.num_nodes} machine{'s' if launch.num_nodes > 1 else ''}, got "
            f"{num_devices} x {num_nodes}; {way_out}"
        )


def _check_own_nodes(num_nodes: int, *, is_run_dir_given: bool) -> None:
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
    if missing:
        raise ValueError(
            f"trainer.num_nodes={num_nodes} needs a command on each machine that knows the others: start it with "
            f"torchrun or srun, or set {', '.join(missing)} in its environment"
        )
    if not is_run_dir_given:
        raise ValueError(
            f"run_dir must be set where trainer.num_nodes={num_nodes} machines are each given the command, because "
            "each would name its own folder by the time; set run_dir=..."
        )


def run_stamp(pattern: str) -> str:
    """What tells a run's folder from others: the time of its start, the same text on all of its processes.

    Under Slurm, where processes cannot talk yet, it is the job and its step, as in `slurm-1234.0`.

    Args:
        pattern: Of the time, as `strftime` takes it.

    Raises:
        ValueError: If torchrun keeps no store that its processes could share.
    """
    now = datetime.now().strftime(pattern)
    launch = find_launch()
    if launch is None or launch.num_processes == 1:
        return now
    if launch.launcher == "Slurm":
        return f"slurm-{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise ValueError("run_dir must be set where torchrun keeps no store for its processes; set run_dir=...")
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=300))
    # The first to come sets it: also the first of those that torchrun starts again after a failure.
    return store.compare_set(_STAMP_KEY, "", now).decode()
