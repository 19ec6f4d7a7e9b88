"""Checkpoints: written whole or not at all, and read back into a model without anything else."""

import errno
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from wnv.models.konet import KoNet
from wnv.scenes.atomic import atomic_file

log = logging.getLogger(__name__)

LAST = "last.ckpt"
PREVIOUS = "last-previous.ckpt"
BEST = "best.ckpt"
EMA_KEY = "ema_state_dict"
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
            with atomic_file(path, overwrite=True) as file:
                torch.save(checkpoint, file)
                if path.name == LAST and path.exists():
                    file.flush()
                    os.fsync(file.fileno())
                    _keep_as_previous(path)
        except (OSError, RuntimeError) as error:
            cause = _disk_error(error)
            if cause is None:
                raise
            raise type(cause)(
                cause.errno or errno.EIO,
                f"the checkpoint could not be written ({cause.strerror or cause}); earlier ones are as they were: make "
                "room, or make the folder writable, and continue with resume=last",
                str(path),
            ) from error


def _keep_as_previous(path: Path) -> None:
    """Give a checkpoint the name of the one of before, in such a way that it has its own at every moment as well."""
    link = path.with_name(f".{PREVIOUS}.link")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links: for an instant there is the one of before alone
        os.replace(path, path.with_name(PREVIOUS))
        return
    os.replace(link, path.with_name(PREVIOUS))
    link.unlink(missing_ok=True)  # still there where both were names of one file already, as a kill may leave them


def _disk_error(error: BaseException | None) -> OSError | None:
    """The file system's error behind the one that torch makes of it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def resolve_checkpoint(source: str | os.PathLike) -> Path:
    """The checkpoint that `source` means: itself, or of a run's folder the one of the latest step that is complete.

    Those that are passed over because they cannot be read are named in a warning.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If none can be read.
    """
    path = Path(source)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint at {path}: there is no such file or folder")
    there = [path / name for name in (LAST, PREVIOUS, BEST) if (path / name).is_file()]
    if not there:
        raise FileNotFoundError(f"no checkpoint in {path}: it holds neither {LAST} nor {BEST}")
    steps, damaged = {}, []
    for file in there:
        try:
            steps[file] = read_checkpoint(file).get("global_step", 0)
        except ValueError as error:
            damaged.append(str(error))
    if not steps:
        raise ValueError(f"no complete checkpoint in {path}: {'; '.join(damaged)}")
    newest = max(there, key=lambda file: steps.get(file, -1))  # the last before the best where both are of one step
    if damaged and rank_zero_only.rank == 0:
        log.warning("%s is taken, of step %d; skipped: %s", newest, steps[newest], "; ".join(damaged))
    return newest


def read_checkpoint(source: str | os.PathLike) -> dict[str, Any]:
    """Tensors and plain values of a checkpoint, on the CPU. No code of the file is run.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the file is damaged, or not a checkpoint of `wnv-train`.
    """
    path = resolve_checkpoint(source)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a checkpoint, or a damaged one: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", CONFIG_KEY} <= checkpoint.keys():
        raise ValueError(f"{path} is not a checkpoint of wnv-train: it lacks state_dict or {CONFIG_KEY}")
    return checkpoint


def load_model(source: str | os.PathLike) -> KoNet:
    """The model of a checkpoint, with the averaged weights where the run kept an average.

    Args:
        source: A `.ckpt` file, or the folder of a run, of which the last checkpoint is taken.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the file is damaged, or its weights do not fit its configuration.
    """
    checkpoint = read_checkpoint(source)
    state = {
        name.removeprefix(_MODEL_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(_MODEL_PREFIX)
    }
    state |= checkpoint.get(EMA_KEY, {})
    try:
        model = KoNet(**checkpoint[CONFIG_KEY])
        model.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the weights in {resolve_checkpoint(source)} do not fit their model: {error}") from error
    return model.eval()
