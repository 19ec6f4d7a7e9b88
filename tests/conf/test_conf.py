"""Every file of conf/ that wnv-train reads composes, builds and trains."""

import warnings
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
EXPECTED = {"demo", "fit_scene", "konet", "konet_dry_run", "konet_dynamic", "konet_fsdp", "konet_large", "konet_tiny"}
GROUPS = ("callbacks", "device", "logger", "loss", "model", "optim", "precision", "strategy", "trainer")
OPTIONS = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
# Parameters in millions, as the README gives them.
SIZES_M = {"konet": 43.1, "konet_large": 170.5, "konet_tiny": 2.8}
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
def data_of(scenes: Path) -> Callable[[str], list[str]]:
    """Overrides for an experiment's data: few synthetic scenes, or a folder of scene files and small gaps."""

    def overrides(experiment: str) -> list[str]:
        target = compose_train(f"experiment={experiment}").data
        if target._target_.endswith("SyntheticDataModule"):
            return ["data.num_val_scenes=2"]
        if OmegaConf.is_missing(target, "val_root"):
            gaps = [
                f"data.{sampler}.{gap}" for sampler in ("sampler", "val_sampler") for gap in ("min_gap=8", "max_gap=12")
            ]
            return [f"data.root={scenes}", f"data.val_root={scenes}", *gaps]
        return [f"data.root={scenes / 'room.zip'}"]

    return overrides


def test_experiments_exist() -> None:
    assert set(EXPERIMENTS) >= EXPECTED


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_builds_at_its_real_size(
    experiment: str, data_of: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wnv.losses.image_loss.PerceptualLoss", torch.nn.Identity)
    cfg = compose_train(
        f"experiment={experiment}", "device=cpu", "trainer.devices=1", f"run_dir={tmp_path}", *data_of(experiment)
    )
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


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains(experiment: str, data_of: Callable, tmp_path: Path) -> None:
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    shrunken = [f"experiment={experiment}", f"run_dir={tmp_path / 'run'}", *SHRUNKEN, *data_of(experiment)]
    metrics = train_command.train(compose_train(*shrunken), run_dir=tmp_path / "run")
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


@pytest.mark.parametrize(("name", "millions"), SIZES_M.items())
def test_sizes_of_the_models(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = instantiate(compose_train(f"model={name}").model)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(group: str, option: str) -> None:
    cfg = compose_train(f"{group}={option}")
    OmegaConf.to_container(cfg.trainer)
    part = {"device": "accelerator", "strategy": "strategy", "precision": "precision"}.get(group)
    if part is None:
        assert cfg[group] is not None
    else:
        assert cfg.trainer[part] is not None
        assert group not in cfg, f"{group} must be packaged into trainer"


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "strategy"])
def test_every_strategy_can_be_made(option: str) -> None:
    strategy = compose_train(f"strategy={option}").trainer.strategy
    assert strategy == "auto" or instantiate(strategy) is not None


def test_every_setting_has_a_comment() -> None:
    bare = []
    for file in (file for group in GROUPS for file in (CONF / group).glob("*.yaml")):
        text = file.read_text()
        assert text.startswith("# @package") or "#" in text, f"{file} has no comment at all"
        if file.parent.name in ("device", "precision", "strategy"):
            continue
        keys = [line for line in text.splitlines() if ": " in line and not line.lstrip().startswith(("#", "-", "_"))]
        bare += [f"{file.parent.name}/{file.name}: {line}" for line in keys if "#" not in line]
    # Values that their own name explains.
    names = (
        "num_layers",
        "mlp_dim",
        "qk_norm",
        "mode",
        "project",
        "name",
        "version",
        "save_dir",
        "folder",
        "dim",
        "optimizer",
    )
    names += ("num_heads", "default_root_dir", "enable_model_summary", "enable_progress_bar")
    bare = [line for line in bare if line.split(": ")[1].strip() not in names]
    assert not bare, bare
