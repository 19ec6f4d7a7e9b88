"""Build the parts of a training from its configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, ListConfig
from torch import nn

from wnv.checkpoints.read import read_checkpoint
from wnv.cli.run_record import RunRecord
from wnv.cli.settings import plain
from wnv.models.konet import KoNet
from wnv.runtime.device import resolve_device
from wnv.training.checkpoint import AtomicCheckpointIO
from wnv.training.image_grid import ImageGrid
from wnv.training.lightning_callbacks import check_callbacks
from wnv.training.precision import make_precision
from wnv.training.processes import Launch, cluster_environment
from wnv.training.stopping import LeaveOnError
from wnv.training.strategies import resolve_strategy

# Settings of a model that do not change its weights.
_WEIGHT_FREE = ("activation_checkpointing", "attention", "pose_normalization")


def choose_device(cfg: DictConfig) -> tuple[Precision, str | Strategy]:
    """Resolve `auto`, and make the precision and strategy that suit the device."""
    device = resolve_device(cfg.trainer.accelerator)
    precision = make_precision(str(cfg.trainer.precision), device)
    cfg.trainer.accelerator, cfg.trainer.precision = device.type, precision.precision
    strategy = cfg.trainer.strategy
    if isinstance(strategy, DictConfig):
        strategy = instantiate(strategy, _convert_="all")
    devices = plain(cfg.trainer, "devices")
    return precision, resolve_strategy(strategy, device=device, devices=devices, num_nodes=cfg.trainer.num_nodes)


def build_data(cfg: DictConfig) -> Any:
    """Build the data module.

    Raises:
        TypeError: If it is none, or lacks `image_size`.
    """
    data = instantiate(cfg.data, _convert_="all")
    if not isinstance(data, L.LightningDataModule):
        raise TypeError(f"data: {_name(data)} must be a LightningDataModule")
    size = getattr(data, "image_size", None)
    if not (isinstance(size, Sequence) and len(size) == 2):
        raise TypeError(f"data: {_name(data)} needs .image_size, (height, width) in pixels, got {size!r}")
    return data


def build_module(cfg: DictConfig, *, image_size: Sequence[int], checkpoint: Path | None) -> Any:
    """Build model, loss and LightningModule, and load the weights of `init_from`.

    Raises:
        TypeError: If model or loss is no `torch.nn.Module`.
        ValueError: If the model differs from that of the checkpoint or of `init_from`.
    """
    model = instantiate(cfg.model, _convert_="all")
    loss = instantiate(cfg.loss, _convert_="all")
    for name, part in (("model", model), ("loss", loss)):
        if not isinstance(part, nn.Module):
            raise TypeError(f"{name}: {_name(part)} must be a torch.nn.Module")
    if hasattr(model, "check_image_size"):
        model.check_image_size(height=image_size[0], width=image_size[1])
    module = instantiate(cfg.module, model=model, loss=loss, **cfg.optim, _convert_="all")
    if checkpoint is not None:
        header = read_checkpoint(checkpoint, trees=())
        _check_same_model(model, header["model_config"], source=checkpoint)
        if hasattr(module, "check_optimizer"):
            module.check_optimizer(header)
    elif cfg.init_from is not None:
        initial = KoNet.from_pretrained(cfg.init_from)
        _check_same_model(model, initial.config, source=cfg.init_from)
        model.load_state_dict(initial.state_dict(), strict=True)
    return module


def build_callbacks(cfg: DictConfig, record: RunRecord) -> list[L.Callback]:
    """Build the callbacks; `trainer.fast_dev_run` writes neither record nor checkpoints nor images."""
    callbacks = build_each(cfg, "callbacks", L.Callback)
    check_callbacks(callbacks)
    if not cfg.trainer.get("enable_progress_bar", True):
        callbacks = [part for part in callbacks if not isinstance(part, ProgressBar)]
    if cfg.trainer.get("fast_dev_run"):
        return [LeaveOnError(), *(part for part in callbacks if not isinstance(part, (Checkpoint, ImageGrid)))]
    return [LeaveOnError(), record, *callbacks]


def build_each(cfg: DictConfig, group: str, kind: type) -> list[Any]:
    """Build the objects of a group of parts, such as `callbacks` or `logger`.

    Raises:
        TypeError: If one is not of the required class.
        ValueError: If one has settings but no `_target_`.
    """
    parts = []
    for name, part in (cfg.get(group) or {}).items():
        if part is None:
            continue
        if "_target_" not in part:
            if HydraConfig.initialized() and HydraConfig.get().runtime.choices.get(group) is None:
                continue  # an experiment sets options of a group that is left out with ~GROUP
            raise ValueError(
                f"{group}.{name} has no _target_; set {group}.{name}._target_=CLASS or {group}.{name}=null"
            )
        built = instantiate(part, _convert_="all")
        if not isinstance(built, kind):
            raise TypeError(f"{group}.{name}: {_name(built)} must be a {kind.__module__}.{kind.__name__}")
        parts.append(built)
    return parts


def build_trainer(
    cfg: DictConfig,
    *,
    callbacks: list[L.Callback],
    launch: Launch | None,
    precision: Precision,
    strategy: str | Strategy,
) -> L.Trainer:
    """Build the trainer; numbers that this machine cannot satisfy are a ValueError, not Lightning's own exception."""
    environment = cluster_environment(launch)
    given = cfg.trainer.get("plugins")
    plugins = [instantiate(part, _convert_="all") for part in (given if isinstance(given, ListConfig) else [])]
    plugins += [AtomicCheckpointIO(), precision, *([] if environment is None else [environment])]
    parts = {"callbacks": callbacks, "logger": build_each(cfg, "logger", Logger), "plugins": plugins}
    try:
        return instantiate(cfg.trainer, precision=None, strategy=strategy, _convert_="all", **parts)
    except InstantiationException as error:
        if isinstance(error.__cause__, MisconfigurationException):
            raise ValueError(f"trainer: {error.__cause__}") from error
        raise


def is_child(trainer: L.Trainer) -> bool:
    """Whether another process of the run started this one, rather than torchrun, Slurm or the user."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and trainer.local_rank > 0


def _check_same_model(model: Any, config: dict[str, Any], *, source: Path | str) -> None:
    config = getattr(model, "complete_config", dict)(config)
    differing = [
        f"{name}={config.get(name)} there, {model.config.get(name)} here"
        for name in sorted(model.config.keys() | config.keys())
        if name not in _WEIGHT_FREE and config.get(name) != model.config.get(name)
    ]
    if differing:
        raise ValueError(f"the model of {source} differs: {', '.join(differing)}; set model.NAME to its values")


def _name(part: Any) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"
