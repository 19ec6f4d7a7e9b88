import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from together import free_ports, run_together

from wnv.checkpoints.read import read_checkpoint
from wnv.training.accelerator import NPUAccelerator
from wnv.training.strategies import SHARDINGS, DataParallelStrategy, FullyShardedStrategy, resolve_strategy


def test_lightning_finds_the_npu_by_its_name() -> None:
    assert isinstance(AcceleratorRegistry.get("npu"), NPUAccelerator)
    if importlib.util.find_spec("torch_npu") is None:
        assert not NPUAccelerator.is_available()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_auto_is_our_ddp_on_several_devices(device: str) -> None:
    def resolve(strategy: str | DDPStrategy, devices: int, num_nodes: int = 1) -> object:
        return resolve_strategy(strategy, device=torch.device(device), devices=devices, num_nodes=num_nodes)

    assert isinstance(resolve("auto", 2), DataParallelStrategy)
    assert isinstance(resolve("auto", 1, num_nodes=2), DataParallelStrategy)
    for strategy in ("auto", "ddp", DDPStrategy()):
        assert resolve(strategy, 1) is strategy


@pytest.mark.parametrize("strategy", [FSDPStrategy(), "fsdp", "fsdp1"])
def test_lightnings_own_fsdp_is_rejected(strategy: str | FSDPStrategy) -> None:
    with pytest.raises(ValueError, match=r"trainer.strategy.*strategy=fsdp"):
        resolve_strategy(strategy, device=torch.device("cpu"), devices=2, num_nodes=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sharding": "full"}, "sharding.*full"), ({"sharding": "NO_SHARD"}, "NO_SHARD.*ddp"), ({"num_replicas": 0}, "0")],
)
def test_invalid_sharding_is_rejected(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FullyShardedStrategy(**options)


@pytest.mark.parametrize(("world_size", "num_replicas"), [(1, None), (2, 2), (6, 4)])
def test_hybrid_groups_of_one_process_or_of_unequal_size_are_rejected(
    world_size: int, num_replicas: int | None, fake: Callable
) -> None:
    """A group of one process would train separately, with gradients that are not averaged."""
    strategy = fake(
        FullyShardedStrategy, sharding="HYBRID_SHARD", num_replicas=num_replicas, num_nodes=1, world_size=world_size
    )
    with pytest.raises(ValueError, match=rf"num_replicas.*{world_size}"):
        strategy._make_mesh()


STRATEGIES = ("ddp", "fsdp")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of six steps, straight and resumed at the third, with two processes and with one."""
    folder = tmp_path_factory.mktemp("runs")

    def start(num_processes: int, cases: list[str]) -> None:
        arguments = [f"{port}:{case}" for port, case in zip(free_ports(len(cases)), cases, strict=True)]
        program = Path(__file__).with_name("several_runs.py")
        run_together(program, [str(folder), str(num_processes), *arguments], num_processes=num_processes, timeout_s=400)

    def resumed(name: str, strategy: str, source: str) -> str:
        return f"{name}:strategy={strategy}:resume={folder / source}"

    knobs = [f"fsdp_{sharding}:strategy=fsdp:trainer.strategy.sharding={sharding}" for sharding in SHARDINGS[1:]]
    start(2, [*(f"{strategy}:strategy={strategy}" for strategy in STRATEGIES), *knobs])
    as_fsdp1(folder / "ddp" / "last-previous.ckpt", folder / "fsdp1.ckpt")
    sources = {"ddp": "ddp/last-previous.ckpt", "fsdp": "fsdp/last-previous.ckpt", "fsdp1": "fsdp1.ckpt"}
    start(2, [resumed(f"{one}_from_{other}", one, sources[other]) for one in STRATEGIES for other in sources])
    start(
        1, ["one:strategy=auto", *(resumed(f"{one}_one_from_fsdp", one, sources["fsdp"]) for one in ("auto", "fsdp"))]
    )
    start(2, [resumed("fsdp_from_one", "fsdp", "one/last-previous.ckpt")])
    return folder


def as_fsdp1(source: Path, copy: Path) -> None:
    """Write a checkpoint as `strategy=fsdp1` did: plain dictionaries, optimiser states in the order of the module."""
    checkpoint = torch.load(source, weights_only=True)
    optimizer = checkpoint["optimizer_states"][0]
    optimizer["state"] = dict(sorted(optimizer["state"].items(), key=lambda item: item[0] % 3))
    torch.save(checkpoint | {"state_dict": dict(checkpoint["state_dict"])}, copy)


def rows(run_dir: Path, metric: str) -> dict[int, float]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[metric]) for row in csv.DictReader(file) if row[metric]}


@pytest.mark.slow
def test_runs_end_alike_under_every_strategy_and_from_every_checkpoint(runs: Path) -> None:
    straight, norms = rows(runs / "ddp", "train/loss"), rows(runs / "ddp", "train/grad_norm")
    validated = rows(runs / "one", "val/psnr")
    end = read_checkpoint(runs / "ddp" / "last.ckpt")
    folders = sorted(folder for folder in runs.iterdir() if folder.is_dir())
    assert len(folders) == 14
    for folder in folders:
        found, checkpoint = rows(folder, "train/loss"), read_checkpoint(folder / "last.ckpt")
        for step, norm in rows(folder, "train/grad_norm").items():
            assert norm == pytest.approx(norms[step], rel=1e-4), f"{folder.name} step {step}"
        assert len(found) == (3 if "from" in folder.name else 6)
        for step, decibels in rows(folder, "val/psnr").items():
            assert decibels == pytest.approx(validated[step], abs=1e-3), f"{folder.name} step {step}"
        if "one" not in folder.name.split("_"):  # of one process the loss is a mean over other scenes
            for step, loss in found.items():
                assert loss == pytest.approx(straight[step], abs=1e-6), f"{folder.name} step {step}"
        for key in ("state_dict", "ema_state_dict"):
            assert [*checkpoint[key]] == [*end[key]]
            torch.testing.assert_close(
                checkpoint[key], end[key], rtol=0, atol=2e-5, msg=lambda text, folder=folder: f"{folder}: {text}"
            )


@pytest.mark.slow
def test_checkpoints_of_all_strategies_hold_the_same_optimizer_state(runs: Path) -> None:
    """Adam hides a gradient of the wrong size, but its running mean does not. Losses also hide wrong decay."""
    expected = read_checkpoint(runs / "ddp" / "last.ckpt")["optimizer_states"][0]
    assert [group["weight_decay"] for group in expected["param_groups"]] == [0.05, 0.0]
    for strategy in STRATEGIES:
        state = read_checkpoint(runs / strategy / "last.ckpt")["optimizer_states"][0]
        assert state["state"].keys() == expected["state"].keys()
        for group, other in zip(state["param_groups"], expected["param_groups"], strict=True):
            assert group["params"] == other["params"]
            assert group["weight_decay"] == other["weight_decay"]
        for number, values in expected["state"].items():
            torch.testing.assert_close(state["state"][number]["step"], values["step"])
            for name in ("exp_avg", "exp_avg_sq"):
                torch.testing.assert_close(state["state"][number][name], values[name], rtol=1e-4, atol=1e-8)
