"""`wnv-train`: train KoNet as a composed configuration says."""

import logging
import os
import signal
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, ListConfig, OmegaConf

from wnv.checkpoints.layout import holds_checkpoint
from wnv.checkpoints.read import read_checkpoint, resolve_checkpoint
from wnv.cli.app import EXIT_STOPPED, JobFailed, Stopped
from wnv.cli.commands import train as main
from wnv.cli.jobs import follow_parent, run_job
from wnv.cli.run_record import RunRecord
from wnv.cli.settings import plain
from wnv.models.konet import KoNet
from wnv.runtime.device import resolve_device
from wnv.runtime.lifetime import die_with_parent
from wnv.training.checkpoint import AtomicCheckpointIO
from wnv.training.precision import make_precision
from wnv.training.processes import check_launch, cluster_environment, count_devices, find_launch
from wnv.training.run_folder import CONFIG_FILE, FINISHED, STOPPED
from wnv.training.stopping import LeaveOnError, StopOnSignal
from wnv.training.strategies import resolve_strategy

log = logging.getLogger(__name__)

# What is read of the configuration, by this module or by its interpolations.
_READ = {"data", "model", "loss", "optim", "paths", "trainer", "callbacks", "logger", "module"}
_READ |= {"name", "seed", "run_dir", "resume", "init_from", "optimized_metric"}


def run(cfg: DictConfig) -> float | None:
    """Train, and give a Hydra sweeper the metric that it optimises."""
    hydra_config = HydraConfig.get()
    # Hydra's word, not the configuration's: processes that Lightning starts compose for themselves, a moment later,
    # and a sweep's jobs have folders of their own.
    run_dir = Path(hydra_config.runtime.output_dir)
    OmegaConf.update(cfg, "run_dir", str(run_dir))
    follow_parent()
    overrides = [*hydra_config.overrides.task, *hydra_config.overrides.hydra]
    is_sweep = hydra_config.mode == RunMode.MULTIRUN
    if is_sweep and _starts_processes(cfg):
        metrics = run_job(overrides, run_dir=run_dir, flags=_command_line_flags(hydra_config))
    else:
        is_run_dir_given = any(item.startswith(("run_dir=", "hydra.run.dir=")) for item in overrides)
        try:
            metrics = train(
                cfg,
                run_dir=run_dir,
                is_sweep=is_sweep,
                is_run_dir_given=is_run_dir_given,
                overrides=hydra_config.overrides.task,
            )
        except Stopped as stop:
            if "SUBMITIT_EXECUTOR" not in os.environ:
                raise
            raise JobFailed(f"stopped {stop}", code=EXIT_STOPPED) from None  # it hands on nothing but exceptions
    if cfg.optimized_metric in metrics:
        return metrics[cfg.optimized_metric]
    if any(name.startswith("val/") for name in metrics):
        known = ", ".join(sorted(metrics))
        raise ValueError(f"optimized_metric must be one of {known}, got {cfg.optimized_metric!r}")
    return None


def train_or_start_job(
    cfg: DictConfig, *, run_dir: Path, overrides: Sequence[str], config_dir: str | Path | None = None
) -> dict[str, float]:
    """Train in this process, or in new ones where the run needs several: Lightning would start the script again."""
    if _starts_processes(cfg):
        return run_job(
            overrides, run_dir=run_dir, flags=() if config_dir is None else ("--config-dir", str(config_dir))
        )
    is_run_dir_given = any(item.startswith("run_dir=") for item in overrides)
    return train(cfg, run_dir=run_dir, is_run_dir_given=is_run_dir_given, overrides=overrides)


def train(
    cfg: DictConfig,
    *,
    run_dir: Path,
    is_sweep: bool = False,
    is_run_dir_given: bool = True,
    overrides: Sequence[str] = (),
) -> dict[str, float]:
    """Build everything, fit, validate; the last value of each metric.

    Args:
        cfg: The composed configuration; its interpolations can be resolved.
        run_dir: Where the run is written.
        is_sweep: Whether this is one of several jobs of one process.
        is_run_dir_given: Whether the folder was named by the user, and so is the same for all processes.
        overrides: What the configuration was composed with, for the record.

    Raises:
        FileExistsError: If the folder holds a run and `cfg.resume` is not set.
        FileNotFoundError: If there is nothing to resume or to begin with.
        ValueError: If settings cannot go together.
        Stopped: If a signal asked the run to stop; it can be resumed.
        KeyboardInterrupt: If Ctrl-C did not want to wait for the end of the step.
    """
    _quiet_lightning()
    if unread := sorted(cfg.keys() - _READ):
        log.warning("not read by wnv-train: %s", ", ".join(unread))
    launch = find_launch()
    if launch is not None and cfg.trainer.devices in ("auto", -1):
        cfg.trainer.devices = launch.num_processes // launch.num_nodes
    precision, strategy = _choose_device(cfg)
    check_launch(
        launch,
        num_devices=_count_devices(cfg),
        num_nodes=cfg.trainer.num_nodes,
        is_run_dir_given=is_run_dir_given,
        is_sweep=is_sweep,
    )
    checkpoint = _find_resumed(cfg, run_dir=run_dir, is_run_dir_given=is_run_dir_given)
    L.seed_everything(cfg.seed, workers=True, verbose=False)

    data = instantiate(cfg.data, _convert_="all")
    model = instantiate(cfg.model, _convert_="all")
    model.check_image_size(height=data.image_size[0], width=data.image_size[1])
    if checkpoint is not None:
        _check_same_model(model, read_checkpoint(checkpoint, trees=())["model_config"], source=checkpoint)
    elif cfg.init_from is not None:
        _begin_with(model, cfg.init_from)
    loss = instantiate(cfg.loss, _convert_="all")
    module = instantiate(cfg.module, model=model, loss=loss, **cfg.optim, _convert_="all")
    callbacks = _instantiate_each(cfg.callbacks)
    record = RunRecord(cfg, run_dir=run_dir, checkpoint=checkpoint, overrides=overrides)
    stop = next((callback for callback in callbacks if isinstance(callback, StopOnSignal)), None)
    environment = cluster_environment(launch)
    trainer = _make_trainer(
        cfg.trainer,
        callbacks=[
            LeaveOnError(),
            record,
            *callbacks,
        ],
        logger=_instantiate_each(cfg.logger),
        plugins=[*_instantiate_each(cfg.trainer.get("plugins")), AtomicCheckpointIO(), precision]
        + ([] if environment is None else [environment]),
        precision=None,
        strategy=strategy,
        _convert_="all",
    )
    if trainer.world_size > 1 and launch is None and trainer.strategy.launcher is None and not is_run_dir_given:
        raise ValueError(
            f"run_dir must be set where {trainer.world_size} processes are started by "
            f"{type(trainer.strategy.cluster_environment).__name__}, because each would name its own folder by the "
            "time; set run_dir=..."
        )
    is_child = _is_child(trainer)
    if is_child:
        die_with_parent(signal.SIGKILL)  # it may be waiting for the parent where no other signal reaches it

    if rank_zero_only.rank == 0:
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        log.info("training %.2f M parameters on %s in %s", num_parameters / 1e6, trainer.strategy.root_device, run_dir)
    begun_at = 0 if checkpoint is None else read_checkpoint(checkpoint, trees=())["global_step"]
    try:
        with nullcontext() if stop is None else stop.listening(trainer):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        if not trainer.interrupted:
            raise
        # Lightning answers Ctrl-C by leaving without a word.
        raise KeyboardInterrupt(f"at step {trainer.global_step}{_way_on(run_dir)}") from None
    if stop is not None and stop.stopped_by is not None:
        record.note_end(STOPPED, step=trainer.global_step, message=stop.stopped_by)
        # Lightning kills everything where a process that it started ends with another code than 0.
        raise Stopped(f"by {stop.stopped_by} at step {trainer.global_step}{_way_on(run_dir)}", is_silent=is_child)
    if begun_at == trainer.global_step:
        log.warning(
            "nothing was trained: the run had done %d of trainer.max_steps=%d steps, and "
            "trainer.max_time=%s counts from its first start",
            begun_at,
            trainer.max_steps,
            cfg.trainer.max_time,
        )
    metrics = _plain(trainer.callback_metrics)
    if trainer.limit_val_batches and module.validated_at_step != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)
        metrics |= _plain(trainer.callback_metrics)
    record.note_end(FINISHED, step=trainer.global_step)
    if rank_zero_only.rank == 0:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()) if name.startswith("val/"))
        log.info("step %d: %s; the run is in %s", trainer.global_step, shown or "no validation", run_dir)
    return metrics


def _starts_processes(cfg: DictConfig) -> bool:
    """Whether this process would start others for its run, one for each further device of this machine."""
    if find_launch() is not None or cfg.trainer.num_nodes > 1:
        return False
    devices = plain(cfg.trainer, "devices")
    is_named = devices not in ("auto", "-1", -1)
    return count_devices(devices, torch.device("cpu") if is_named else resolve_device(cfg.trainer.accelerator)) > 1


def _command_line_flags(hydra_config: DictConfig) -> list[str]:
    """What was typed besides overrides and says where the configuration is."""
    folders = [source.path for source in hydra_config.runtime.config_sources if source.provider == "command-line"]
    flags = [word for folder in folders for word in ("--config-dir", folder)]
    return [*flags, "--config-name", hydra_config.job.config_name]


def _way_on(run_dir: Path) -> str:
    return f"; continue with run_dir={run_dir} resume=last" if holds_checkpoint(run_dir) else ", without a checkpoint"


def _is_child(trainer: L.Trainer) -> bool:
    """Whether this process was started by another one of the run, and not by torchrun, Slurm or the user."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and trainer.local_rank > 0


def _find_resumed(cfg: DictConfig, *, run_dir: Path, is_run_dir_given: bool) -> Path | None:
    """The checkpoint to continue from; checked that no other run is written over."""
    holds_run = (run_dir / CONFIG_FILE).exists() or holds_checkpoint(run_dir)
    # Lightning's own file for Slurm, which it would continue from without being asked.
    holds_run |= run_dir.is_dir() and any(run_dir.glob("hpc_ckpt_*"))
    if cfg.resume is None:
        if holds_run and rank_zero_only.rank == 0:
            raise FileExistsError(
                f"{run_dir} holds a run already; continue it with resume=last, or choose another run_dir"
            )
        return None
    if cfg.resume not in ("last", "auto"):
        return resolve_checkpoint(cfg.resume)
    if not is_run_dir_given:
        raise ValueError(
            f"resume={cfg.resume} continues the run in run_dir, got none; set run_dir=... to the folder of the run"
        )
    return None if cfg.resume == "auto" and not holds_checkpoint(run_dir) else resolve_checkpoint(run_dir)


def _choose_device(cfg: DictConfig) -> tuple[Precision, str | Strategy]:
    """Settle what `auto` means, and make for the device what Lightning would make for those that it knows only."""
    device = resolve_device(cfg.trainer.accelerator)
    precision = make_precision(str(cfg.trainer.precision), device)
    cfg.trainer.accelerator = device.type
    strategy = cfg.trainer.strategy
    if isinstance(strategy, DictConfig):
        strategy = instantiate(strategy, _convert_="all")
    devices = plain(cfg.trainer, "devices")
    return precision, resolve_strategy(strategy, device=device, devices=devices, num_nodes=cfg.trainer.num_nodes)


def _count_devices(cfg: DictConfig) -> int:
    return count_devices(plain(cfg.trainer, "devices"), torch.device(cfg.trainer.accelerator))


def _make_trainer(cfg: DictConfig, **parts: Any) -> L.Trainer:
    """The trainer of the configuration; what Lightning says of numbers that this machine has not is a user's error."""
    try:
        return instantiate(cfg, **parts)
    except InstantiationException as error:
        if isinstance(error.__cause__, MisconfigurationException):
            raise ValueError(f"trainer: {error.__cause__}") from error
        raise


def _check_same_model(model: KoNet, config: dict[str, Any], *, source: Path | str) -> None:
    config = KoNet.complete_config(config)
    names = sorted(model.config.keys() | config.keys())
    shape_free = ("activation_checkpointing", "attention", "pose_normalization")  # the same weights serve either way
    differing = [
        f"{name}={config.get(name)} there and {model.config.get(name)} here"
        for name in names
        if name not in shape_free and config.get(name) != model.config.get(name)
    ]
    if differing:
        raise ValueError(f"the model of {source} is another one: {', '.join(differing)}; set model.NAME to what it has")


def _begin_with(model: KoNet, source: str) -> None:
    given = KoNet.from_pretrained(source)
    _check_same_model(model, given.config, source=source)
    model.load_state_dict(given.state_dict(), strict=True)


def _instantiate_each(group: DictConfig | ListConfig | None) -> list[Any]:
    if group is None:
        return []
    parts = group.values() if isinstance(group, DictConfig) else group
    return [instantiate(part, _convert_="all") for part in parts if part is not None]


def _plain(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _quiet_lightning() -> None:
    """Silence advice that does not hold here."""
    # data.num_workers is the user's choice; the synthetic world needs none.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Lightning 2.6 asks torch 2.13 in a way that it is to give up.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
    # A block hands out keys and values, which are views of one tensor; nothing writes into them.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor.*")
    # Where processes are not those that are wanted, `check_launch` says so.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
