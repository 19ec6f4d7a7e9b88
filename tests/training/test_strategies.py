import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from together import free_ports, run_together

from wnv.training.checkpoint import read_checkpoint
from wnv.training.strategies import DataParallelStrategy, settle_strategy


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_devices_that_lightning_knows_keep_their_strategy(device: str) -> None:
    for strategy in ("auto", "ddp", DDPStrategy(), DataParallelStrategy()):
        settled = settle_strategy(strategy, device=torch.device(device), devices=2, num_nodes=1)
        assert settled is strategy


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("strategy", [FSDPStrategy(), "fsdp", "fsdp_cpu_offload"])
def test_lightnings_own_fsdp_is_refused(device: str, strategy: str | FSDPStrategy) -> None:
    with pytest.raises(ValueError, match=r"Lightning's own .* set strategy=fsdp1, or strategy=fsdp for FSDP2"):
        settle_strategy(strategy, device=torch.device(device), devices=2, num_nodes=1)


def test_a_hook_that_lightning_would_pass_over_in_silence_is_told(fake: Callable) -> None:
    strategy = fake(DataParallelStrategy, _ddp_comm_hook=print, root_device=torch.device("cpu"))
    with pytest.warns(UserWarning, match=r"ddp_comm_hook is ignored on cpu: it needs CUDA"):
        strategy._register_ddp_hooks()


STRATEGIES = ("ddp", "fsdp", "fsdp1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of six steps, straight and resumed at the third, by two processes and by one."""
    folder = tmp_path_factory.mktemp("runs")

    def start(num_processes: int, cases: list[str]) -> None:
        arguments = [f"{port}:{case}" for port, case in zip(free_ports(len(cases)), cases, strict=True)]
        program = Path(__file__).with_name("several_runs.py")
        run_together(program, [str(folder), str(num_processes), *arguments], num_processes=num_processes, timeout_s=400)

    def resumed(name: str, strategy: str, source: str) -> str:
        return f"{name}:strategy={strategy}:resume={folder / source / 'last-previous.ckpt'}"

    pairs = [f"{strategy}:strategy={strategy}" for strategy in STRATEGIES]
    crossed = [(one, other) for one in STRATEGIES for other in STRATEGIES]
    start(2, pairs + [resumed(f"{one}_from_{other}", one, other) for one, other in crossed])
    alone = ["one:strategy=auto", "fsdp1_one:strategy=fsdp1"]
    alone += [resumed(f"{strategy}_one_from_fsdp1", strategy, "fsdp1") for strategy in ("auto", "fsdp", "fsdp1")]
    start(1, alone)
    start(2, [resumed("fsdp1_from_one", "fsdp1", "one"), resumed("ddp_from_fsdp1_one", "ddp", "fsdp1_one")])
    return folder


def rows(run_dir: Path, metric: str) -> dict[int, float]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[metric]) for row in csv.DictReader(file) if row[metric]}


@pytest.mark.slow
def test_runs_end_alike_whatever_shares_them_and_whatever_they_are_resumed_from(runs: Path) -> None:
    straight, norms = rows(runs / "ddp", "train/loss"), rows(runs / "ddp", "train/grad_norm")
    validated = rows(runs / "one", "val/psnr")
    end = read_checkpoint(runs / "ddp" / "last.ckpt")
    folders = sorted(runs.iterdir())
    assert len(folders) == 19
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
    """Adam hides a gradient of the wrong size; its running mean does not. Nor does a loss show what is decayed."""
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
