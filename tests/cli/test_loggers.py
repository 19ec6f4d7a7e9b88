"""W&B runs: names, ids and the API key."""

import sys

import pytest
import wandb
from omegaconf import OmegaConf

from wnv.cli.composition import composed
from wnv.cli.loggers import identify_wandb_run, name_wandb_run
from wnv.cli.overrides import parse
from wnv.cli.sweep import Sweep

OFFLINE = ["logger=wandb", "logger.wandb.offline=true", "run_dir=run"]


def test_a_run_keeps_its_id_and_a_job_is_named_by_its_swept_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["wnv-train", "-m", *OFFLINE, "optim.lr=1e-3,1e-4", "seed=3"])
    job = [*OFFLINE, "optim.lr=0.001", "seed=3", "hydra.sweep.dir=runs/rates"]
    with composed("train", job) as cfg:
        assert name_wandb_run(cfg, job) == ['logger.wandb.name="optim.lr=0.001"', 'logger.wandb.group="rates"']
        identify_wandb_run(cfg)
        first = OmegaConf.to_container(cfg.logger.wandb)
        identify_wandb_run(cfg)
    assert cfg.logger.wandb == first
    assert (first["name"], first["group"]) == ("optim.lr=0.001", "rates")
    assert first["id"]
    with composed("train", [*job, "logger.wandb.name=mine"]) as cfg:
        assert name_wandb_run(cfg, job) == ['logger.wandb.group="rates"']
    with composed("train", job[3:]) as cfg:
        assert name_wandb_run(cfg, job) == []


def test_the_name_of_a_job_in_other_processes_may_hold_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    word = "model.camera_encoding='geope'"
    monkeypatch.setattr(sys, "argv", ["wnv-train", "-m", *OFFLINE, f"{word},'gta'"])
    with composed("train", [*OFFLINE, word, "hydra.sweep.dir=runs/encodings"]) as cfg:
        names = [parse(setting) for setting in name_wandb_run(cfg, [*OFFLINE, word])]
    assert [name.value() for name in names if name is not None] == [word, "encodings"]


def test_wandb_needs_a_key_unless_it_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", lambda **options: False)
    with composed("train", ["logger=wandb", "run_dir=run"]) as cfg:
        with pytest.raises(ValueError, match=r"WANDB_API_KEY.*logger\.wandb\.offline=true"):
            identify_wandb_run(cfg)
        cfg.logger.wandb.offline = True
        identify_wandb_run(cfg)


def test_a_sweep_names_its_failures() -> None:
    sweep = Sweep("val/psnr", results={0: 20.123456, 1: None}, overrides={0: "seed=1", 1: "seed=10"}, codes={1: 2})
    assert sweep.table().splitlines()[1:] == ["  0  seed=1     20.123", "  1  seed=10    failed"]
    assert sweep.describe_failures().startswith("job 1 of the sweep")
    sweep.codes[0] = 2
    assert sweep.describe_failures().startswith("all 2 jobs of the sweep")
