"""Launch of a run's processes, and the facts that they agree on before they can communicate."""

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
    """Processes of a run that an external launcher started, each with the same command.

    Attributes:
        launcher: `torchrun` or `Slurm`.
        num_processes: Number of processes on all machines.
        num_nodes: Number of machines.
    """

    launcher: str
    num_processes: int
    num_nodes: int


class SlurmTasks(SLURMEnvironment):
    """One process per task of `srun`.

    Lightning's environment would requeue the job itself, with its own checkpoint file, and reject `--ntasks`.
    """

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    @staticmethod
    @override
    def _validate_srun_variables() -> None:
        """Do nothing: `check_launch` compares the numbers."""

    @override
    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Do nothing: `check_launch` compares the numbers."""


def find_launch() -> Launch | None:
    """Return the external launcher of this process, or None if Lightning launches the ranks.

    A Slurm job of one task, or a command in a Slurm job without `srun`, launches its ranks itself.

    Raises:
        ValueError: If submitit started several tasks, which cannot find each other.
    """
    environment = os.environ
    num_tasks = int(environment.get("SUBMITIT_LOCAL_NTASKS", 1))
    if num_tasks > 1:
        raise ValueError(
            f"hydra.launcher.tasks_per_node must be 1, got {num_tasks}: a job's task starts the processes of its "
            "devices itself"
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
    """Return Lightning's cluster environment for a launch; None leaves the choice to Lightning."""
    if launch is None:
        return LightningEnvironment() if "SLURM_NTASKS" in os.environ else None
    return SlurmTasks() if launch.launcher == "Slurm" else TorchElasticEnvironment()


def count_devices(devices: int | str | Sequence[int] | None, device: torch.device) -> int:
    """Count the devices per machine of `trainer.devices`: a number, indices, or `auto` and -1 for all.

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
    """Check that devices x nodes matches the launched processes.

    Args:
        launch: The external launcher, if any.
        num_devices: Devices per machine, `trainer.devices`.
        num_nodes: Machines, `trainer.num_nodes`.
        is_run_dir_given: Whether the user set `run_dir`.
        is_sweep: Whether this process runs the jobs of a sweep.

    Raises:
        ValueError: With what to set instead.
    """
    if launch is None:
        if is_sweep and num_devices * num_nodes > 1:
            raise ValueError(
                f"a sweep (-m) runs its jobs in one process, got trainer.devices={num_devices} and trainer.num_nodes="
                f"{num_nodes}; set trainer.devices=1, or start every job separately"
            )
        if num_nodes > 1:
            _check_own_nodes(num_nodes, is_run_dir_given=is_run_dir_given)
        return
    if is_sweep and launch.num_processes > 1 and "SUBMITIT_EXECUTOR" not in os.environ:
        raise ValueError(
            f"a sweep (-m) starts the processes of its jobs itself, got {launch.num_processes} started by "
            f"{launch.launcher}, each of which would repeat the sweep; run wnv-train -m without it"
        )
    if (num_devices * num_nodes, num_nodes) != (launch.num_processes, launch.num_nodes):
        each, rest = divmod(launch.num_processes, launch.num_nodes)
        fix = (
            f"set trainer.devices={each} trainer.num_nodes={launch.num_nodes}"
            if not rest
            else "start equally many processes on each machine"
        )
        raise ValueError(
            f"trainer.devices x trainer.num_nodes must match the processes started by {launch.launcher} "
            f"({launch.num_processes} on {launch.num_nodes} machine{'s' if launch.num_nodes > 1 else ''}), got "
            f"{num_devices} x {num_nodes}; {fix}"
        )


def _check_own_nodes(num_nodes: int, *, is_run_dir_given: bool) -> None:
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
    if missing:
        raise ValueError(
            f"trainer.num_nodes={num_nodes} needs {', '.join(missing)} in the environment of each machine's command; "
            "set them, or start it with torchrun or srun"
        )
    if not is_run_dir_given:
        raise ValueError(
            f"run_dir must be set for trainer.num_nodes={num_nodes} without torchrun or srun, as each machine would "
            "name its folder by its own clock; set run_dir=..."
        )


def run_stamp(pattern: str) -> str:
    """Return a name for the run's folder, equal on all its processes: the start time, or `slurm-JOB.STEP`.

    Args:
        pattern: Format of the time, for `strftime`.

    Raises:
        ValueError: If torchrun keeps no store that its processes can share.
    """
    now = datetime.now().strftime(pattern)
    launch = find_launch()
    if launch is None or launch.num_processes == 1:
        return now
    if launch.launcher == "Slurm":
        return f"slurm-{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise ValueError("run_dir must be set, because torchrun keeps no store for its processes; set run_dir=...")
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=300))
    # The first process sets the name, also for processes that torchrun restarts after a failure.
    return store.compare_set(_STAMP_KEY, "", now).decode()
