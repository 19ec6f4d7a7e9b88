from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch.distributed import TCPStore

from wnv.training.processes import (
    Launch,
    SlurmTasks,
    check_launch,
    cluster_environment,
    count_devices,
    find_launch,
    run_stamp,
)

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
SLURM = {
    **{"SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "3"},
    **{"SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "gpu[07-08]"},
}
NOBODYS = dict.fromkeys([*TORCHRUN, *SLURM, "SLURM_STEP_NUM_NODES", "SUBMITIT_EXECUTOR", "SUBMITIT_LOCAL_NTASKS"])


def place(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None]) -> None:
    for name, value in {**NOBODYS, **variables}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "launch", "environment"),
    [
        ({}, None, type(None)),
        (TORCHRUN, Launch("torchrun", num_processes=4, num_nodes=2), TorchElasticEnvironment),
        (SLURM | TORCHRUN, Launch("torchrun", num_processes=4, num_nodes=2), TorchElasticEnvironment),
        (SLURM, Launch("Slurm", num_processes=4, num_nodes=2), SlurmTasks),
        # a step on a part of the job's machines
        (SLURM | {"SLURM_STEP_NUM_NODES": "1"}, Launch("Slurm", num_processes=4, num_nodes=1), SlurmTasks),
        # one task, which starts the processes for its devices
        (SLURM | {"SLURM_NTASKS": "1"}, None, LightningEnvironment),
        # in the job's script, without srun
        (SLURM | {"SLURM_STEP_ID": None}, None, LightningEnvironment),
        # typed into a shell that srun has opened
        (SLURM | {"SLURM_JOB_NAME": "bash"}, None, LightningEnvironment),
        (SLURM | {"SLURM_JOB_NAME": "interactive"}, None, LightningEnvironment),
    ],
)
def test_launchers_are_detected(
    monkeypatch: pytest.MonkeyPatch, variables: dict, launch: Launch | None, environment: type
) -> None:
    place(monkeypatch, variables)
    assert find_launch() == launch
    assert type(cluster_environment(launch)) is environment


def test_slurm_tasks_know_their_ranks_and_are_not_requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, SLURM | {"MASTER_ADDR": None, "MASTER_PORT": None})  # and no --ntasks-per-node
    tasks = cluster_environment(find_launch())
    tasks.validate_settings(num_devices=2, num_nodes=2)
    assert (tasks.world_size(), tasks.global_rank(), tasks.local_rank(), tasks.node_rank()) == (4, 3, 1, 1)
    assert (tasks.main_address, tasks.main_port) == ("gpu07", 16234)
    assert tasks.creates_processes_externally
    assert not tasks.auto_requeue


def test_several_tasks_of_submitit_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "2"})
    with pytest.raises(ValueError, match=r"hydra\.launcher\.tasks_per_node.*2"):
        find_launch()


@pytest.mark.parametrize(
    ("devices", "number"), [(3, 3), ("3", 3), ([0, 2], 2), ("0,2", 2), ("0,", 1), ("auto", 1), (-1, 1), ("-1", 1)]
)
def test_devices_are_counted(devices: int | str | list[int], number: int) -> None:
    assert count_devices(devices, torch.device("cpu")) == number


@pytest.mark.parametrize("devices", [0, -2, "all", "", None])
def test_invalid_devices_are_rejected(devices: int | str | None) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.devices.*{devices!r}"):
        count_devices(devices, torch.device("cpu"))


FOUR_ON_TWO = Launch("torchrun", num_processes=4, num_nodes=2)


@pytest.mark.parametrize(
    ("launch", "settings", "reason"),
    [
        (FOUR_ON_TWO, {"num_devices": 1, "num_nodes": 1}, "4 on 2 .*1 x 1.*devices=2 .*num_nodes=2"),
        (FOUR_ON_TWO, {"num_devices": 4, "num_nodes": 1}, "4 on 2 .*4 x 1"),
        (Launch("Slurm", 2, 1), {"num_devices": 1}, "Slurm.*2 on 1 .*1 x 1"),
        (Launch("Slurm", 3, 2), {"num_devices": 2, "num_nodes": 2}, "3 on 2 .*2 x 2"),
        (FOUR_ON_TWO, {"num_devices": 2, "num_nodes": 2, "is_sweep": True}, "sweep.*torchrun"),
        (None, {"num_devices": 2, "is_sweep": True}, r"sweep.*trainer\.devices=2"),
        (None, {"num_devices": 1, "num_nodes": 2}, "num_nodes=2.*MASTER_ADDR, MASTER_PORT, NODE_RANK"),
    ],
)
def test_numbers_that_do_not_match_the_launch_are_rejected(
    monkeypatch: pytest.MonkeyPatch, launch: Launch | None, settings: dict, reason: str
) -> None:
    place(monkeypatch, dict.fromkeys(("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")))
    options = {"num_nodes": 1, "is_run_dir_given": True, "is_sweep": False} | settings
    with pytest.raises(ValueError, match=reason):
        check_launch(launch, **options)


def test_several_machines_without_a_launcher_need_a_run_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, {"MASTER_ADDR": "gpu07", "MASTER_PORT": "1234", "NODE_RANK": "1"})
    check_launch(None, num_devices=2, num_nodes=2, is_run_dir_given=True, is_sweep=False)
    with pytest.raises(ValueError, match=r"run_dir.*trainer\.num_nodes=2"):
        check_launch(None, num_devices=2, num_nodes=2, is_run_dir_given=False, is_sweep=False)


def test_matching_numbers_are_accepted() -> None:
    check_launch(FOUR_ON_TWO, num_devices=2, num_nodes=2, is_run_dir_given=False, is_sweep=False)
    check_launch(None, num_devices=8, num_nodes=1, is_run_dir_given=False, is_sweep=False)
    check_launch(Launch("torchrun", 1, 1), num_devices=1, num_nodes=1, is_run_dir_given=False, is_sweep=True)


def test_torchrun_processes_name_the_same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    place(monkeypatch, TORCHRUN | address | {"TORCHELASTIC_USE_AGENT_STORE": "True"})
    patterns = [f"process {number} at %Y" for number in range(6)]  # a different time each
    with ThreadPoolExecutor(6) as pool:
        stamps = list(pool.map(run_stamp, patterns))
    assert len({*stamps}) == 1
    assert stamps[0].startswith("process ")
    assert run_stamp("again") == stamps[0], "restarted processes use the same folder"
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    with pytest.raises(ValueError, match=r"run_dir.*torchrun"):
        run_stamp("%Y")


def test_folders_are_named_by_slurm_job_or_time(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, SLURM)
    assert run_stamp("%Y") == "slurm-1234.0"
    place(monkeypatch, SLURM | {"SLURM_NTASKS": "1"})
    assert run_stamp("at %Y").startswith("at 2")
    place(monkeypatch, {})
    assert run_stamp("at %Y").startswith("at 2")
