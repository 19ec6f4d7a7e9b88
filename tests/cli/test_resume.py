"""A resumed run continues with its own configuration; what is set now is applied and logged."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf

import wnv
from wnv.checkpoints.read import read_checkpoint
from wnv.cli.composition import composed
from wnv.cli.resume import own_configuration, with_own_overrides
from wnv.cli.run_record import log_changes
from wnv.runtime.errors import RunFailed
from wnv.synthetic.dataset import SyntheticDataset
from wnv.training.run_folder import flatten_config, read_lines

STARTED = ["experiment=smoke", "device=cpu", "data=synthetic_dynamic", "optim.lr=2e-3", "callbacks=[default,ema]"]


@pytest.fixture
def resume(tmp_path: Path) -> Callable[..., dict]:
    """The settings of a resumed run that are not those in its folder."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    words = [*STARTED, f"run_dir={run_dir}"]
    with composed("train", words) as cfg:
        (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    (run_dir / "starts.jsonl").write_text(json.dumps({"overrides": words}) + "\n")

    def settings(*overrides: str, run_dir: Path = run_dir) -> dict:
        words = with_own_overrides([f"run_dir={run_dir}", "resume=last", *overrides])
        saved = flatten_config(yaml.safe_load((run_dir / "config.yaml").read_text()))
        with composed("train", words) as cfg:
            cfg = own_configuration(cfg, run_dir=run_dir, overrides=words)
        now = flatten_config(OmegaConf.to_container(cfg, resolve=True))
        names = [name for name in [*saved, *now] if saved.get(name) != now.get(name) and name != "resume"]
        return {name: now.get(name) for name in names}

    settings.run_dir = run_dir
    return settings


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ([], {}),
        (["optim.lr=2e-3", "experiment=smoke"], {}),  # as it was started
        (["optim.lr=5e-4", "seed=3"], {"optim.lr": 5e-4, "seed": 3, "data.seed": 3}),
        (["callbacks.ema.decay=0.9", "data.kind=mixed"], {"callbacks.ema.decay": 0.9, "data.kind": "mixed"}),
        (["callbacks.stop=null"], {"callbacks.stop._target_": None}),
        (["data=synthetic"], {"data.kind": "static", "data.free_time": False}),
    ],
)
def test_only_new_settings_change_those_of_the_run(resume: Callable, overrides: list[str], changed: dict) -> None:
    assert resume(*overrides) == changed


def test_the_runs_configuration_is_kept_where_defaults_have_changed(resume: Callable) -> None:
    """Also a setting that only the file has; new settings and renamed classes come from now."""
    file = resume.run_dir / "config.yaml"
    saved = yaml.safe_load(file.read_text())
    saved["optim"]["clip_norm"] = 0.3
    del saved["trainer"]["benchmark"]
    saved["callbacks"]["throughput"]["_target_"] = "wnv.training.callbacks.Throughput"
    file.write_text(yaml.safe_dump(saved))
    found = resume("optim.lr=5e-4")
    assert found == {"optim.lr": 5e-4, "callbacks.throughput._target_": "wnv.training.throughput.Throughput"}


def test_options_that_no_longer_exist_can_be_replaced(resume: Callable) -> None:
    file = resume.run_dir / "starts.jsonl"
    file.write_text(json.dumps({"overrides": [*STARTED, "strategy=fsdp1"]}) + "\n")
    with pytest.raises(HydraException, match="fsdp1"):
        resume()
    assert resume("strategy=fsdp")["trainer.strategy.sharding"] == "FULL_SHARD"


def test_a_moved_run_writes_into_its_new_folder(resume: Callable, tmp_path: Path) -> None:
    moved = resume.run_dir.rename(tmp_path / "moved")
    found = resume(run_dir=moved)
    assert found["callbacks.checkpoints.folder"] == str(moved)
    assert all(str(value).startswith(str(moved)) for value in found.values())


def test_changes_are_logged_unless_they_change_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = {"run_dir": "/old", "data": {"num_workers": 0, "batch_size": 2, "root": "/old/scenes"}}
    before["callbacks"] = {"images": {"_target_": "wnv.training.callbacks.ImageGrid"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before))
    after = {"run_dir": "/new", "data": {"num_workers": 4, "batch_size": 2, "root": "/new/scenes"}}
    after |= {"trainer": {"benchmark": None}, "logger": {"wandb": {"id": 1}}, "callbacks": {"images": {"_target_": 1}}}
    log_changes(tmp_path / "last.ckpt", OmegaConf.create(after), step=7)
    assert not caplog.text
    after["data"]["batch_size"] = 3
    log_changes(tmp_path / "last.ckpt", OmegaConf.create(after), step=7)
    assert "from step 7 on" in caplog.text
    assert "data.batch_size: 2 -> 3\n" in caplog.text


@pytest.mark.slow
def test_a_run_is_continued_by_its_folder_alone_and_other_runs_are_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = ["trainer.limit_val_batches=0", "optim.warmup_steps=0", "callbacks.progress=null"]
    run, other = tmp_path / "run", tmp_path / "other"
    wnv.train([*STARTED, *steps, "trainer.max_steps=2"], run_dir=run)
    with caplog.at_level(logging.INFO):
        wnv.train(["resume=last", "trainer.max_steps=4", "optim.lr=5e-4"], run_dir=run)
    for text in ("0.04 M parameters on 1 x cpu", "global batch 2 (2 per device x 1 device", "steps 2 to 4"):
        assert text in caplog.text
    assert "from step 2 on: optim.lr: 0.002 -> 0.0005, trainer.max_steps: 2 -> 4\n" in caplog.text
    with (run / "metrics.csv").open(newline="") as file:
        rates = [float(row["train/lr"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([2e-3, 1e-3, 2.5e-4, 5e-4 * 0.1464466], rel=1e-4)
    caplog.clear()
    (data := tmp_path / "own.py").write_text(
        "from wnv.data.synthetic_datamodule import SyntheticDataModule\nclass OwnData(SyntheticDataModule): pass\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(data.parent)
        own = [*STARTED, *steps, "trainer.max_steps=5", "data._target_=own.OwnData", f"resume={run}"]
        wnv.train(own, run_dir=other)
    assert "no position in OwnData" in caplog.text
    assert f"(compared with {run / 'config.yaml'}): data._target_: " in caplog.text
    with pytest.raises(ValueError, match=r"optim\.optimizer.*muon.*adamw"):
        wnv.train(["resume=last", "optim=muon_cosine", "trainer.max_steps=6"], run_dir=run)
    with pytest.raises(ValueError, match=r"init_from=konet_tiny"):
        wnv.train(["resume=last", "init_from=konet_tiny"], run_dir=run)


def test_damaged_data_end_a_run_with_one_line_and_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SyntheticDataset.__getitems__

    def damaged(dataset: SyntheticDataset, keys: list[tuple[int, int]]) -> list:
        if any(index == 11 for _, index in keys):  # of the sixth batch; one batch is read ahead
            raise FileNotFoundError("scenes/a.zip: no such scene file")
        return whole(dataset, keys)

    monkeypatch.setattr(SyntheticDataset, "__getitems__", damaged)
    run, rare = tmp_path / "run", "callbacks.checkpoints.every_n_steps=1000"
    with pytest.raises(RunFailed, match=r"scenes/a.zip.*at step 4; continue with run_dir=.*resume=last") as caught:
        wnv.train([*STARTED, rare, "callbacks.progress=null", "trainer.limit_val_batches=0"], run_dir=run)
    assert caught.value.code == 2
    assert read_checkpoint(run)["global_step"] == 4
    (end,) = read_lines(run / "ends.jsonl")
    assert (end["how"], end["step"]) == ("failed", 4)
    assert "scenes/a.zip" in end["message"]
