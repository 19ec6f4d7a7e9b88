"""Checkpoints: written whole or not at all, and read back into a model without anything else."""

import logging
import os
import pickle
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from wnv.models.konet import KoNet
from wnv.models.pretrained import describe_misfit
from wnv.runtime.atomic import atomic_file
from wnv.training.checkpoint_layout import (
    BEST,
    LAST,
    PREVIOUS,
    check_complete,
    is_sharded,
    keep_as_previous,
    not_written,
    sharded_folders,
    unfinished_saves,
)
from wnv.training.sharded_checkpoint import AVERAGE, MODEL, read_sharded

log = logging.getLogger(__name__)

CONFIG_KEY = "model_config"
_MODEL_PREFIX = "model."


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name in its own folder, flushes it to the disk, and renames it.

    So a killed process leaves the previous checkpoint as it was, and the next write removes what the killed one had
    begun. When a new `last.ckpt` is whole and on the disk, the one of before becomes `last-previous.ckpt`. (Lightning
    writes to the system's temporary folder and moves the file, which is not atomic between file systems, and passes
    over a folder it may not write to.)
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Write a checkpoint to a local path.

        Raises:
            TypeError: If storage options are given; there are none.
            OSError: If the file cannot be written; earlier checkpoints are as they were.
        """
        if storage_options is not None:
            raise TypeError(f"{type(self).__name__} has no storage_options, got {storage_options!r}")
        path = Path(path)
        try:
            if path.is_symlink():  # to a folder, of a time when this run wrote sharded ones; that is found as well
                path.unlink()
            with atomic_file(path, overwrite=True) as file:
                torch.save(checkpoint, file)
                if path.name == LAST and path.exists():
                    file.flush()
                    os.fsync(file.fileno())
                    keep_as_previous(path)
        except (OSError, RuntimeError) as error:
            if (told := not_written(error, path)) is None:
                raise
            raise told from error

    @override
    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """All of a checkpoint, whole or sharded, in the form of a whole one."""
        if Path(path).is_dir():
            return read_sharded(Path(path))
        return super().load_checkpoint(path, map_location, weights_only)


def resolve_checkpoint(source: str | os.PathLike) -> Path:
    """The checkpoint that `source` means: itself, or of a run's folder the one of the latest step that is complete.

    Those that are passed over because they cannot be read, or were not written to their end, are named in a warning.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If none can be read.
    """
    path = Path(source)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(
            f"no checkpoint at {path}: there is no such file or folder; give the folder of a run, or a .ckpt file"
        )
    if is_sharded(path.resolve()):  # itself and not a link to it, which may soon point to another
        return path.resolve() if path.is_symlink() else path
    there = [path / name for name in (LAST, PREVIOUS, BEST) if (path / name).is_file()] + sharded_folders(path)
    if not there:
        raise FileNotFoundError(
            f"no checkpoint in {path}: it holds neither {LAST} nor {BEST}; give the folder of a run, or a .ckpt file"
        )
    steps = {}
    skipped = [f"{unfinished} is left of a save that did not end" for unfinished in unfinished_saves(path)]
    for checkpoint in there:
        try:
            steps[checkpoint] = _step(checkpoint)
        except ValueError as error:
            skipped.append(str(error))
    if not steps:
        raise ValueError(f"no complete checkpoint in {path}: {'; '.join(skipped)}")
    newest = max(steps, key=steps.__getitem__)  # the last before the best where both are of one step
    if skipped and rank_zero_only.rank == 0:
        log.warning("%s is taken, of step %d; skipped: %s", newest, steps[newest], "; ".join(skipped))
    return newest


def read_checkpoint(source: str | os.PathLike, *, trees: Collection[str] = (MODEL, AVERAGE)) -> dict[str, Any]:
    """Tensors and plain values of a checkpoint, on the CPU. No code of the file is run.

    Args:
        source: A `.ckpt` file, the folder of a sharded checkpoint, or the folder of a run.
        trees: Which of `state_dict`, `ema_state_dict` and `optimizer_states` are read of a sharded checkpoint. (A whole
            file has all of them, and what is not used of it is not read from the disk.)

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the checkpoint is damaged, or not one of `wnv-train`.
    """
    path = resolve_checkpoint(source)
    if path.is_dir():
        return read_sharded(path, trees=trees)
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
        raise ValueError(
            f"{path} is not a checkpoint, or a damaged one: no zip archive ({size} bytes), as torch.save writes them; "
            "give a .ckpt file of wnv-train, or the folder of its run"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0].partition(" (Could this")[0]  # torch asks for reports of its own messages
        raise ValueError(f"{path} is not a checkpoint, or a damaged one: {reason}") from error
    if not isinstance(checkpoint, dict) or not {MODEL, CONFIG_KEY} <= checkpoint.keys():
        raise ValueError(f"{path} is not a checkpoint of wnv-train: it lacks {MODEL} or {CONFIG_KEY}")
    return checkpoint


def _step(path: Path) -> int:
    return check_complete(path) if path.is_dir() else read_checkpoint(path).get("global_step", 0)


def load_model(source: str | os.PathLike) -> KoNet:
    """The model of a checkpoint, with the averaged weights where the run kept an average.

    Args:
        source: A `.ckpt` file or the folder of a sharded checkpoint, or the folder of a run, of which the last
            checkpoint is taken.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the file is damaged, or its weights do not fit its configuration.
    """
    checkpoint = read_checkpoint(source)
    state = {
        name.removeprefix(_MODEL_PREFIX): value
        for name, value in checkpoint[MODEL].items()
        if name.startswith(_MODEL_PREFIX)
    }
    state |= checkpoint.get(AVERAGE, {})
    try:
        model = KoNet(**checkpoint[CONFIG_KEY])
        misfit = describe_misfit(model, state)
    except TypeError as error:
        misfit = str(error)
    if misfit is not None:
        path = resolve_checkpoint(source)
        raise ValueError(f"the weights in {path} do not fit their model: {misfit}; take another checkpoint of the run")
    model.load_state_dict(state, strict=True)
    return model.eval()
