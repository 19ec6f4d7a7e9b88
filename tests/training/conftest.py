"""A network and batches small enough to train in well under a second."""

import warnings
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch.utils.data import DataLoader

from wnv.losses.image_loss import ImageLoss
from wnv.models.konet import KoNet
from wnv.training.checkpoint import AtomicCheckpointIO
from wnv.training.ema import WeightAverage
from wnv.training.module import ViewSynthesisModule
from wnv.training.run_checkpoints import RunCheckpoints
from wnv.types import Batch, Cameras, Views

HEIGHT, WIDTH = 16, 24


def ignore_warnings() -> None:
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
    warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")  # where a test does not validate
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    ignore_warnings()


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    def make(seed: int = 0, num_scenes: int = 2, num_context: int = 2, num_target: int = 3) -> Batch:
        generator = torch.Generator().manual_seed(seed)

        def views(num_views: int) -> Views:
            K = torch.tensor([[20.0, 0, WIDTH / 2], [0, 20, HEIGHT / 2], [0, 0, 1]]).repeat(num_scenes, num_views, 1, 1)
            camtoworld = torch.eye(4).repeat(num_scenes, num_views, 1, 1)
            camtoworld[..., :3, 3] = torch.randn(num_scenes, num_views, 3, generator=generator)
            return Views(
                images=torch.rand(num_scenes, num_views, 3, HEIGHT, WIDTH, generator=generator),
                cameras=Cameras(K=K, camtoworld=camtoworld, width=WIDTH, height=HEIGHT),
                times=torch.zeros(num_scenes, num_views),
            )

        scenes = tuple(f"scene-{seed}-{i}" for i in range(num_scenes))
        return Batch(scenes=scenes, context=views(num_context), target=views(num_target))

    return make


@pytest.fixture(scope="session")
def loader() -> Callable[[list[Batch]], DataLoader]:
    """Wrapped, because Lightning treats a bare list as a list of loaders."""
    return lambda batches: DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)


@pytest.fixture(scope="session")
def make_module() -> Callable[..., ViewSynthesisModule]:
    def make(**options: object) -> ViewSynthesisModule:
        torch.manual_seed(1)
        model = KoNet(dim=32, num_layers=2, num_heads=2, mlp_dim=64)
        defaults = {"loss": ImageLoss(), "lr": 1e-3, "warmup_steps": 2}
        return ViewSynthesisModule(model=model, **(defaults | options))

    return make


@pytest.fixture(scope="session")
def make_trainer(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., L.Trainer]:
    def make(**options: object) -> L.Trainer:
        defaults = {
            "max_steps": 4,
            "max_epochs": -1,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "default_root_dir": tmp_path_factory.getbasetemp(),
            "plugins": [AtomicCheckpointIO()],
            "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in options.get("callbacks", [])),
        }
        return L.Trainer(**(defaults | options))

    return make


@pytest.fixture(scope="session")
def fit(make_module: Callable, make_trainer: Callable, loader: Callable) -> Callable[..., L.Trainer]:
    """Train on batches, one step per batch (of `accumulate_grad_batches`), validate on `validate`, resume `resume`."""

    def run(
        batches: list[Batch],
        *callbacks: L.Callback,
        module: object = None,
        validate: list[Batch] | None = None,
        resume: Path | None = None,
        **options: object,
    ) -> L.Trainer:
        max_steps = len(batches) // options.get("accumulate_grad_batches", 1)
        trainer = make_trainer(**({"max_steps": max_steps, "callbacks": list(callbacks)} | options))
        loaders = [loader(batches), None if validate is None else loader(validate)]
        trainer.fit(module or make_module(), *loaders, ckpt_path=resume, weights_only=True)
        return trainer

    return run


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_batch: Callable, make_module: Callable, fit: Callable
) -> Path:
    """The folder of a run of four steps with an average of the weights; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("trained")
    callbacks = [RunCheckpoints(folder=folder, every_n_steps=2, monitor=None), WeightAverage(decay=0.5)]
    ignore_warnings()
    fit([make_batch(i) for i in range(4)], *callbacks, module=make_module(lr=1e-2))
    return folder


@pytest.fixture
def fake() -> Callable[..., object]:
    """An instance of a class with only the given attributes."""

    def make(base: type, **attributes: object) -> object:
        return type("Fake", (base,), {"__init__": lambda self: None, **attributes})()

    return make
