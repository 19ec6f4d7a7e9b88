"""Model, data, loss, callback, optimiser and experiment from a user's package, found with `--config-dir`."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import wnv

OWN_PARTS = Path(__file__).parents[3] / "shared" / "data" / "failing" / "own_parts"
TINY = ["device=cpu", "trainer.max_steps=2", "trainer.val_check_interval=2", "optim.warmup_steps=1"]
TINY += ["trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false"]

CODE = """
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

from wnv.types import Batch, Cameras, Views


class MeanColour(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.config = {"scale": scale}
        self.bias = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, context, cameras, times):
        mean = context.images.mean(1, keepdim=True) * self.config["scale"] + self.bias
        return mean.expand(-1, cameras.K.shape[1], -1, -1, -1)


class NoConfig(MeanColour):
    def __init__(self) -> None:
        super().__init__()
        del self.config


def views(scenes: int, count: int) -> Views:
    K = torch.tensor([[24.0, 0, 12], [0, 24, 8], [0, 0, 1]]).expand(scenes, count, 3, 3)
    camtoworld = torch.eye(4).repeat(scenes, count, 1, 1)
    camtoworld[:, :, 0, 3] = torch.arange(count)
    cameras = Cameras(K=K, camtoworld=camtoworld, height=16, width=24)
    return Views(images=torch.rand(scenes, count, 3, 16, 24), cameras=cameras, times=torch.zeros(scenes, count))


def collate(names: list[str]) -> Batch:
    return Batch(scenes=tuple(names), context=views(len(names), 2), target=views(len(names), 1))


class Noise(L.LightningDataModule):
    def __init__(self, num_scenes: int = 4) -> None:
        super().__init__()
        self.num_scenes = num_scenes
        self.image_size = (16, 24)

    def loader(self) -> DataLoader:
        names = [f"noise{i}" for i in range(self.num_scenes)]
        return DataLoader(names, batch_size=2, collate_fn=collate)

    train_dataloader = val_dataloader = loader


class Sizeless(Noise):
    def __init__(self) -> None:
        super().__init__()
        del self.image_size


def absolute(rendered, truth):
    return (rendered - truth).abs().mean()


class Absolute(nn.Module):
    def forward(self, rendered, truth):
        return absolute(rendered, truth)


class Speechless(nn.Module):
    def forward(self, rendered, truth):
        return {"mine": absolute(rendered, truth)}


class Count(L.Callback):
    batches = 0

    def __init__(self, word: str = "hi") -> None:
        self.word = word

    def on_train_batch_end(self, *_) -> None:
        Count.batches += 1


class NoCallback:
    pass
"""
FILES = {
    "model/mean.yaml": "_target_: own_parts.MeanColour\nscale: 0.5\n",
    "data/noise.yaml": "_target_: own_parts.Noise\nnum_scenes: 4\n",
    "loss/absolute.yaml": "_target_: own_parts.Absolute\n",
    "callbacks/count.yaml": "count: {_target_: own_parts.Count, word: hello}\n",
    "optim/sgd.yaml": "defaults: [adamw_cosine]\noptimizer: {_target_: torch.optim.SGD}\nbetas: null\nlr: 0.1\n",
    "experiment/mine.yaml": (
        "# @package _global_\ndefaults:\n  - override /model: mean\n  - override /data: noise\n"
        "  - override /loss: absolute\n  - override /optim: sgd\n  - override /callbacks: [default,count]\nname: mine\n"
    ),
    "local/default.yaml": "# @package _global_\npaths: {runs: my_runs}\n",
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, float]]:
    """Train with the files above as `--config-dir`."""
    (tmp_path / "own_parts.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        file = tmp_path / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return lambda *overrides, **options: wnv.train([*TINY, *overrides], config_dir=tmp_path / "conf", **options)


def test_own_parts_train(own: Callable, tmp_path: Path) -> None:
    metrics = own("experiment=mine")
    assert metrics["val/psnr"] > 0
    assert sys.modules["own_parts"].Count.batches == 2
    (run,) = (tmp_path / "my_runs" / "mine").iterdir()  # as local/default.yaml sets
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["optim"]["optimizer"]["_target_"] == "torch.optim.SGD"
    assert (run / "last.ckpt").exists()
    own("experiment=mine", "resume=last", "trainer.max_steps=3", "trainer.val_check_interval=3", run_dir=run)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model._target_=own_parts.NoConfig", "~model.scale"], r"NoConfig.*\.config"),
        (["data._target_=own_parts.Sizeless", "~data.num_scenes"], r"Sizeless.*\.image_size"),
        (["data._target_=own_parts.Absolute", "~data.num_scenes"], "data.*Absolute.*LightningDataModule"),
        (["loss._target_=own_parts.Speechless"], "Speechless.*mine"),
        (["loss._target_=own_parts.NoCallback"], "loss.*NoCallback.*Module"),
        (["+callbacks.other._target_=own_parts.NoCallback"], r"callbacks\.other.*NoCallback.*Callback"),
        (["+logger.mine._target_=own_parts.NoCallback"], r"logger\.mine.*NoCallback.*Logger"),
        (["model.scale=much"], r"model\.scale.*number.*much"),
        (["callbacks.count.word=3"], r"callbacks\.count\.word.*text.*3"),
        (["+callbacks.count.sound=3"], r"callbacks\.count\.sound.*Count"),
    ],
)
def test_what_a_part_lacks_is_named(own: Callable, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        own("experiment=mine", *overrides, run_dir=tmp_path / "run")


@pytest.mark.parametrize("overrides", [["~callbacks"], ["callbacks=null", "logger=[]"], ["~logger"], ["logger=null"]])
def test_callbacks_and_loggers_can_be_left_out(own: Callable, tmp_path: Path, overrides: list[str]) -> None:
    metrics = own("experiment=smoke", *overrides, run_dir=tmp_path / "run")
    assert metrics["val/psnr"] > 0
    assert (tmp_path / "run" / "last.ckpt").exists() == (overrides[0] in ("~logger", "logger=null"))


@pytest.mark.slow
@pytest.mark.skipif(not OWN_PARTS.exists(), reason="needs ../shared")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=mine"], None),
        (["experiment=mine_noise"], None),
        (["experiment=mine_noise", "loss=tensor"], None),
        (["experiment=null", "data=noise", "model=tiny2", "loss=l1"], None),
        (["data=noise", "model=tiny1"], r"Tiny.*\.config"),
        (["experiment=smoke", "model=tiny2"], r"model\.dim.*Tiny2.*experiment=smoke"),
        (["experiment=smoke", "+callbacks.old._target_=mypkg.cb.OldStyle"], "OldStyle.*Callback"),
        (["experiment=sc"], "sc/train"),
    ],
)
def test_a_package_of_somebody_else(
    overrides: list[str], message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(OWN_PARTS / "src"))

    def train() -> dict[str, float]:
        return wnv.train([*TINY, *overrides], run_dir=tmp_path / "run", config_dir=OWN_PARTS / "conf")

    if message is None:
        assert train()["val/psnr"] > 0
    else:
        with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
            train()
