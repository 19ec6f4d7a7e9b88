"""`wnv-train`: train a model as a composed configuration describes."""

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
from hydra.types import RunMode
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from wnv.checkpoints.layout import holds_checkpoint
from wnv.checkpoints.read import read_checkpoint, resolve_checkpoint
from wnv.cli.app import EXIT_STOPPED, JobFailed, Stopped
from wnv.cli.commands import train as main
from wnv.cli.early_checks import check_early
from wnv.cli.failures import explain_failure
from wnv.cli.jobs import follow_parent, run_job
from wnv.cli.loggers import closed_at_end, identify_wandb_run, name_wandb_run
from wnv.cli.resume import OWN_RUN, own_configuration
from wnv.cli.run_record import RunRecord
from wnv.cli.schema import check_part
from wnv.cli.settings import plain
from wnv.cli.start_facts import describe_start, start_facts
from wnv.cli.train_parts import build_callbacks, build_data, build_module, build_trainer, choose_device, is_child
from wnv.runtime.device import resolve_device
from wnv.runtime.lifetime import die_with_parent
from wnv.training.processes import check_launch, count_devices, find_launch
from wnv.training.run_folder import CONFIG_FILE, FINISHED, STOPPED
from wnv.training.stopping import StopOnSignal

log = logging.getLogger(__name__)

# What this module or an interpolation reads.
_READ = {"data", "model", "loss", "optim", "paths", "trainer", "callbacks", "logger", "module"}
_READ |= {"name", "seed", "run_dir", "resume", "init_from", "optimized_metric"}


def run(cfg: DictConfig) -> float | None:
    """Train, and return the metric that a Hydra sweeper optimises."""
    hydra_config = HydraConfig.get()
    # From Hydra, not the configuration: processes that Lightning starts compose a moment later, and each job of a sweep
    # has its own folder.
    run_dir = Path(hydra_config.runtime.output_dir)
    OmegaConf.update(cfg, "run_dir", str(run_dir))
    follow_parent()
    overrides = [*hydra_config.overrides.task, *hydra_config.overrides.hydra]
    cfg = own_configuration(cfg, run_dir=run_dir, overrides=hydra_config.overrides.task)
    is_sweep = hydra_config.mode == RunMode.MULTIRUN
    names = name_wandb_run(cfg, hydra_config.overrides.task) if is_sweep else []
    if is_sweep and _starts_processes(cfg):
        metrics = run_job([*overrides, *names], run_dir=run_dir, flags=_command_line_flags(hydra_config))
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
            raise JobFailed(f"stopped {stop}", code=EXIT_STOPPED) from None  # submitit passes on exceptions only
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
    cfg = own_configuration(cfg, run_dir=run_dir, overrides=overrides)
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
    """Build all parts, fit, validate, and return the last value of each metric.

    Args:
        cfg: The composed configuration; its interpolations can be resolved.
        run_dir: Folder of the run.
        is_sweep: Whether this is one of several jobs of one process.
        is_run_dir_given: Whether the user named the folder, so that it is the same for all processes.
        overrides: What the configuration was composed with, for the record.

    Raises:
        FileExistsError: If the folder holds a run and `cfg.resume` is not set.
        FileNotFoundError: If there is nothing to resume or to start from.
        ValueError: If settings contradict each other.
        Stopped: If a signal stopped the run; it can be resumed.
        KeyboardInterrupt: If Ctrl-C interrupted the training within a step.
    """
    _quiet_lightning()
    _check_settings(cfg)
    launch = find_launch()
    if launch is not None and cfg.trainer.devices in ("auto", -1):
        cfg.trainer.devices = launch.num_processes // launch.num_nodes
    precision, strategy = choose_device(cfg)
    check_launch(
        launch,
        num_devices=count_devices(plain(cfg.trainer, "devices"), torch.device(cfg.trainer.accelerator)),
        num_nodes=cfg.trainer.num_nodes,
        is_run_dir_given=is_run_dir_given,
        is_sweep=is_sweep,
    )
    checkpoint = _find_checkpoint(cfg, run_dir=run_dir, is_run_dir_given=is_run_dir_given)
    identify_wandb_run(cfg)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    data = build_data(cfg)
    module = build_module(cfg, image_size=data.image_size, checkpoint=checkpoint)
    record = RunRecord(cfg, run_dir=run_dir, checkpoint=checkpoint, overrides=overrides)
    callbacks = build_callbacks(cfg, record)
    trainer = build_trainer(cfg, callbacks=callbacks, launch=launch, precision=precision, strategy=strategy)
    if trainer.world_size > 1 and launch is None and trainer.strategy.launcher is None and not is_run_dir_given:
        environment = type(getattr(trainer.strategy, "cluster_environment", None)).__name__
        raise ValueError(f"run_dir must be set: {environment} starts {trainer.world_size} processes, which share it")
    if is_child(trainer):
        die_with_parent(signal.SIGKILL)  # it may wait for its parent where no other signal arrives
    first_step = 0 if checkpoint is None else _check_position(checkpoint, data)
    if rank_zero_only.rank == 0:
        record.facts = start_facts(trainer, module, data)
        log.info("%s; %s", describe_start(record.facts, first_step=first_step), run_dir)
    with closed_at_end(trainer.loggers):
        _fit(trainer, module, data, checkpoint=checkpoint, first_step=first_step, record=record, run_dir=run_dir)
        return _finish(trainer, module, data, record=record, run_dir=run_dir)


def _check_settings(cfg: DictConfig) -> None:
    """Check settings that the signatures of parts do not describe."""
    if unread := sorted({str(key) for key in cfg} - _READ):
        log.warning("not read by wnv-train: %s", ", ".join(unread))
    check_early(cfg)
    check_part("optim", cfg.optim, target=cfg.module._target_)


def _find_checkpoint(cfg: DictConfig, *, run_dir: Path, is_run_dir_given: bool) -> Path | None:
    """Return the checkpoint to resume from, and make sure that no other run is overwritten."""
    holds_run = (run_dir / CONFIG_FILE).exists() or holds_checkpoint(run_dir)
    # Lightning's own checkpoint for Slurm, from which it would resume unasked.
    holds_run |= run_dir.is_dir() and any(run_dir.glob("hpc_ckpt_*"))
    if cfg.resume is None:
        if holds_run and rank_zero_only.rank == 0:
            raise FileExistsError(
                f"{run_dir} holds a run already; continue it with resume=last, or set another run_dir"
            )
        return None
    if cfg.resume in OWN_RUN and not is_run_dir_given:
        raise ValueError(f"resume={cfg.resume} needs run_dir=..., the folder of the run to continue")
    if cfg.resume == "auto" and not holds_checkpoint(run_dir):
        return None
    checkpoint = resolve_checkpoint(run_dir if cfg.resume in OWN_RUN else cfg.resume)
    file = checkpoint.parent / CONFIG_FILE
    before = OmegaConf.select(OmegaConf.load(file), "init_from") if file.is_file() else cfg.init_from
    if cfg.init_from not in (None, before):
        raise ValueError(
            f"init_from={cfg.init_from} has no effect on a run that continues from {checkpoint}; leave one of "
            "init_from and resume out"
        )
    return checkpoint


def _check_position(checkpoint: Path, data: L.LightningDataModule) -> int:
    """Return the step of a checkpoint; log whether it lacks the position in the training data."""
    header = read_checkpoint(checkpoint, trees=())
    if type(data).__qualname__ not in header and rank_zero_only.rank == 0:
        log.warning(
            "%s has no position in %s: training continues at step %d with its first samples",
            checkpoint,
            type(data).__qualname__,
            header["global_step"],
        )
    return header["global_step"]


def _fit(
    trainer: L.Trainer,
    module: L.LightningModule,
    data: L.LightningDataModule,
    *,
    checkpoint: Path | None,
    first_step: int,
    record: RunRecord,
    run_dir: Path,
) -> None:
    """Fit, and raise an exception that says how to resume if the training was stopped or failed."""
    callbacks: list[L.Callback] = getattr(trainer, "callbacks")  # noqa: B009 Lightning declares it nowhere
    stop = next((callback for callback in callbacks if isinstance(callback, StopOnSignal)), None)
    try:
        with nullcontext() if stop is None else stop.listening(trainer):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        if not trainer.interrupted:
            raise
        # Lightning exits silently after Ctrl-C.
        raise KeyboardInterrupt(f"at step {trainer.global_step}{_how_to_resume(run_dir)}") from None
    except Exception as error:
        raise explain_failure(error, step=trainer.global_step, first_step=first_step, run_dir=run_dir) from error
    if stop is not None and stop.stopped_by is not None:
        record.note_end(STOPPED, step=trainer.global_step, message=stop.stopped_by)
        message = f"by {stop.stopped_by} at step {trainer.global_step}{_how_to_resume(run_dir)}"
        # Lightning kills all processes if one that it started exits with another code than 0.
        raise Stopped(message, is_silent=is_child(trainer))
    if first_step == trainer.global_step:
        log.warning(
            "nothing was trained: step %d of trainer.max_steps=%d is done; trainer.max_time counts all starts",
            first_step,
            trainer.max_steps,
        )


def _finish(
    trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, *, record: RunRecord, run_dir: Path
) -> dict[str, float]:
    """Validate unless the last step has been, and return the metrics."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if trainer.limit_val_batches and module.validated_at_step != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    record.note_end(FINISHED, step=trainer.global_step)
    if rank_zero_only.rank == 0:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()) if name.startswith("val/"))
        where = "nothing is saved" if getattr(trainer, "fast_dev_run", False) else f"the run is in {run_dir}"
        log.info("step %d: %s; %s", trainer.global_step, shown or "no validation", where)
    return metrics


def _starts_processes(cfg: DictConfig) -> bool:
    """Whether the run needs several processes on this machine, which this one would start."""
    if find_launch() is not None or cfg.trainer.num_nodes > 1:
        return False
    devices = plain(cfg.trainer, "devices")
    is_named = devices not in ("auto", "-1", -1)
    return count_devices(devices, torch.device("cpu") if is_named else resolve_device(cfg.trainer.accelerator)) > 1


def _command_line_flags(hydra_config: Any) -> list[str]:
    """Return the flags of this command that locate its configuration."""
    folders = [source.path for source in hydra_config.runtime.config_sources if source.provider == "command-line"]
    flags = [word for folder in folders for word in ("--config-dir", folder)]
    return [*flags, "--config-name", hydra_config.job.config_name]


def _how_to_resume(run_dir: Path) -> str:
    return f"; continue with run_dir={run_dir} resume=last" if holds_checkpoint(run_dir) else ", without a checkpoint"


def _quiet_lightning() -> None:
    """Silence warnings that do not apply."""
    for message in (
        ".*does not have many workers.*",  # data.num_workers is the user's choice
        "You requested to overfit but enabled .* dataloader shuffling.*",  # shown each time
        ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 on torch 2.13
        "Detected call of `lr_scheduler.step.*before `optimizer.step",  # fp16: the first steps find the loss scale
        "FSDP2-wrapped module .* returned a view tensor.*",  # keys and values of a block: nothing writes into them
        "The `srun` command is available on your system but is not used.*",  # check_launch compares the processes
    ):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
