"""Record a training run: its configuration, and a line for each start and end."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from typing_extensions import override

from wnv.cli.app import describe_error
from wnv.cli.loggers import log_facts
from wnv.cli.resume import is_known
from wnv.evaluation.environment import describe_environment
from wnv.training.run_folder import CONFIG_FILE, FAILED, STOPPED, flatten_config, note_end, note_start

log = logging.getLogger(__name__)

# Settings that may change without changing what a resumed run computes.
_FREE_SETTINGS = (
    *("resume", "init_from", "run_dir", "trainer.max_time", "trainer.default_root_dir", "paths.", "logger."),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "optimized_metric", "name"),
    *("data.num_workers", "data.cache_frames"),  # speed of loading
)


class RunRecord(L.Callback):
    """Save the resolved configuration, and a line for this start (versions, command, device) and one for its end.

    Written when training starts, so that a start that fails does not make its folder a run.

    Args:
        cfg: The composed configuration.
        run_dir: Folder of the run.
        checkpoint: Checkpoint that the run resumes from, if any.
        overrides: What the configuration was composed with.
    """

    def __init__(self, cfg: DictConfig, *, run_dir: Path, checkpoint: Path | None, overrides: Sequence[str]) -> None:
        self.cfg = cfg
        self.overrides = [*overrides]
        self.run_dir = run_dir
        self.checkpoint = checkpoint
        self.start: str | None = None
        self.facts: dict[str, Any] = {}

    @override
    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Before Lightning saves the hyperparameters of TensorBoard.
        self.facts |= describe_environment(trainer.strategy.root_device)
        log_facts(trainer.loggers, self.cfg, self.facts)

    @override
    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        file = self.run_dir / CONFIG_FILE
        if self.checkpoint is not None:
            log_changes(self.checkpoint, self.cfg, step=trainer.global_step)
        temporary = file.with_name(f".{file.name}.tmp")
        temporary.write_text(OmegaConf.to_yaml(self.cfg, resolve=True))
        os.replace(temporary, file)
        start = self.facts | {
            "devices": trainer.world_size,
            "command": sys.argv,
            "overrides": self.overrides,
            "resumed_from": None if self.checkpoint is None else str(self.checkpoint),
        }
        self.start = note_start(self.run_dir, start)

    def note_end(self, how: str, *, step: int, message: str | None = None) -> None:
        """Record how the training ended, if it started in this process."""
        if self.start is None:
            return
        try:
            note_end(self.run_dir, how, start=self.start, step=step, message=message)
        except OSError as error:  # such as a full disk; what ended the training must still be reported
            log.warning("cannot record the end of the training in %s: %s", self.run_dir, error)
        self.start = None

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            self.note_end(STOPPED, step=trainer.global_step, message="SIGINT")
        else:
            is_error = isinstance(exception, Exception)
            text = describe_error(exception)[1] if is_error else " ".join(str(exception).split())
            self.note_end(FAILED, step=trainer.global_step, message=f"{type(exception).__name__}: {text}")


def log_changes(checkpoint: Path, cfg: DictConfig, *, step: int) -> None:
    """Log the settings that differ from those of the run that a checkpoint is from."""
    file = checkpoint.parent / CONFIG_FILE
    if not file.is_file():
        log.warning("%s has no %s beside it: its settings cannot be compared", checkpoint, CONFIG_FILE)
        return
    then, now = (flatten_config(OmegaConf.to_container(config, resolve=True)) for config in (OmegaConf.load(file), cfg))
    moved = str(then.get("run_dir")), str(now.get("run_dir"))
    changes = [
        f"{name}: {then.get(name)} -> {now.get(name)}"
        for name in sorted(then.keys() | now.keys())
        if str(then.get(name)).replace(*moved) != str(now.get(name))
        and not name.startswith(_FREE_SETTINGS)
        and not (name.startswith("trainer.") and name not in then)  # a default that older runs did not record
        and not (name.endswith("_target_") and name in then and not is_known(then[name]))  # renamed since
    ]
    if changes:
        other = "" if moved[0] == moved[1] else f" (compared with {file})"
        log.warning("settings changed from step %d on%s: %s", step, other, ", ".join(changes))
