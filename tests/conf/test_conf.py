"""Every file of conf/ that wnv-train reads composes, builds and trains."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import wnv.conf
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import wnv
from wnv.cli import train as train_command
from wnv.models.konet import KoNet
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo

CONF = Path(wnv.conf.__path__[0])
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
FAST = {"fit_scene", "konet_dynamic", "konet_tiny"}
GROUPS = ("callbacks", "device", "logger", "loss", "model", "optim", "precision", "strategy", "trainer")
PACKAGED = {"device": "accelerator", "strategy": "strategy", "precision": "precision"}  # into trainer
OPTIONS = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
# Settings that their own name explains.
EXPLAINED = "num_layers mlp_dim qk_norm mode project name version save_dir folder dim optimizer num_heads".split()
EXPLAINED += ["default_root_dir", "enable_model_summary", "enable_progress_bar"]
SHRUNKEN = [
    "device=cpu",
    "loss.perceptual_weight=0",
    "strategy=auto",
    "trainer.devices=1",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=1",
    "optim.warmup_steps=1",
    "data.image_size=[16,24]",
    "data.batch_size=2",
    "data.num_workers=0",
    "model.dim=32",
    "model.num_layers=2",
    "model.num_heads=2",
    "model.mlp_dim=64",
    "init_from=null",
]


def compose_train(*overrides: str) -> DictConfig:
    with initialize_config_module("wnv.conf", version_base="1.3"):
        return compose("train", list(overrides))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one scene: sixteen grey frames along a line, slightly turning."""
    folder = tmp_path_factory.mktemp("scenes")
    frames = []
    for i in range(16):
        camtoworld = np.eye(4)
        camtoworld[:3, :3] = [[np.cos(i / 9), 0, np.sin(i / 9)], [0, 1, 0], [-np.sin(i / 9), 0, np.cos(i / 9)]]
        camtoworld[0, 3] = i / 4
        frames.append(Frame(time_s=i / 4, K=np.array([[30.0, 0, 18], [0, 30, 12], [0, 0, 1]]), camtoworld=camtoworld))
    info = SceneInfo(id="room", kind="static", width=36, height=24, frames=tuple(frames))
    write_scene(folder, info, [np.full((24, 36, 3), 10 * i, dtype=np.uint8) for i in range(16)], image_format="png")
    return folder


@pytest.fixture
def compose_experiment(scenes: Path) -> Callable[..., DictConfig]:
    """Compose an experiment on few synthetic scenes, or on the folder of scenes with small gaps."""

    def make(experiment: str, *overrides: str) -> DictConfig:
        cfg = compose_train(f"experiment={experiment}", *overrides)
        if cfg.data._target_.endswith("SyntheticDataModule"):
            cfg.data.num_val_scenes = 2
        elif OmegaConf.is_missing(cfg.data, "val_root"):
            cfg.data.root = cfg.data.val_root = str(scenes)
            for sampler in (cfg.data.sampler, cfg.data.val_sampler):
                sampler.min_gap, sampler.max_gap = 8, 12
        else:
            cfg.data.root = str(scenes / "room.zip")
        return cfg

    return make


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_builds_at_its_real_size(
    experiment: str, compose_experiment: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wnv.losses.image_loss.PerceptualLoss", torch.nn.Identity)
    cfg = compose_experiment(experiment, "device=cpu", "trainer.devices=1", f"run_dir={tmp_path}")
    assert cfg.name == experiment
    assert cfg.keys() <= train_command._READ, "a top-level key that nobody reads"
    with torch.device("meta"):
        model = instantiate(cfg.model, _convert_="all")
    assert isinstance(model, KoNet)
    for size in cfg.data.image_size:
        assert size % model.patch_size == 0
    instantiate(cfg.data, _convert_="all")
    module = instantiate(cfg.module, model=model, loss=instantiate(cfg.loss), **cfg.optim, _convert_="all")
    assert module.warmup_steps < cfg.trainer.max_steps
    for group in (cfg.callbacks, cfg.logger):
        for part in group.values():
            instantiate(part, _convert_="all")
    assert cfg.callbacks.checkpoints.every_n_steps <= cfg.trainer.max_steps or experiment == "konet_dry_run"


# Shrunken, the others are like one of these.
@pytest.mark.parametrize(
    "experiment",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS],
)
def test_every_experiment_trains(experiment: str, compose_experiment: Callable, tmp_path: Path) -> None:
    cfg = compose_experiment(experiment, f"run_dir={tmp_path / 'run'}", *SHRUNKEN)
    metrics = train_command.train(cfg, run_dir=tmp_path / "run")
    assert metrics["val/psnr"] > 0
    assert (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.parametrize(
    "option", ["fast", "overfit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("profile", "nan"))]
)
def test_every_debug_option_trains(option: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shortened = (
        [] if option == "fast" else ["trainer.max_steps=3", "trainer.val_check_interval=3", "optim.warmup_steps=1"]
    )
    wnv.train(["experiment=smoke", "device=cpu", f"debug={option}", *shortened], run_dir=run_dir)
    written = {file.name for file in run_dir.iterdir()} if run_dir.exists() else set()
    if option == "fast":
        assert not written
    else:
        assert {"last.ckpt", "config.yaml"} <= written
        assert ("fit-profile.txt" in written) == (option == "profile")


@pytest.mark.parametrize("experiment", ["konet_dynamic", "konet_fsdp"])
def test_synthetic_experiments_take_scene_files(experiment: str, scenes: Path) -> None:
    place = (f"data.root={scenes}", f"data.val_root={scenes}", "data.sampler.min_gap=8", "data.sampler.max_gap=12")
    cfg = compose_train(f"experiment={experiment}", "data=scenes", *place)
    assert instantiate(cfg.data, _convert_="all").num_train_scenes == 1


def test_every_option_composes() -> None:
    """Each option once, as many groups at a time as have one left."""
    options = {group: [option for other, option in OPTIONS if other == group] for group in GROUPS}
    for i in range(max(map(len, options.values()))):
        chosen = {group: names[i % len(names)] for group, names in options.items()}
        cfg = compose_train(*(f"{group}={name}" for group, name in chosen.items()))
        OmegaConf.to_container(cfg.trainer)
        for group, part in PACKAGED.items():
            assert cfg.trainer[part] is not None
            assert group not in cfg, f"{group} must be packaged into trainer"
        strategy = cfg.trainer.strategy
        assert strategy == "auto" or instantiate(strategy) is not None


def test_every_setting_has_a_comment() -> None:
    bare = []
    for file in (file for group in GROUPS for file in (CONF / group).glob("*.yaml")):
        text = file.read_text()
        assert text.startswith("# @package") or "#" in text, f"{file} has no comment at all"
        if file.parent.name in PACKAGED:
            continue
        keys = [line for line in text.splitlines() if ": " in line and not line.lstrip().startswith(("#", "-", "_"))]
        bare += [f"{file.parent.name}/{file.name}: {line}" for line in keys if "#" not in line]
    bare = [line for line in bare if line.split(": ")[1].strip() not in EXPLAINED]
    assert not bare, bare
