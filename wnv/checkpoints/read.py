"""Find and read the checkpoints of a training run, whole files and sharded folders alike."""

import logging
import os
import pickle
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from wnv.checkpoints.layout import (
    BEST,
    LAST,
    PREVIOUS,
    check_complete,
    is_sharded,
    sharded_folders,
    unfinished_saves,
)
from wnv.checkpoints.sharded import AVERAGE, MODEL, read_sharded

log = logging.getLogger(__name__)

CONFIG_KEY = "model_config"
MODEL_PREFIX = "model."  # the model is the attribute `model` of the LightningModule


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
    if skipped and _is_first_rank():
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


def read_weights(source: str | os.PathLike) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the model's configuration and weights, averaged (EMA) where the run keeps an average.

    Args:
        source: A `.ckpt` file, the folder of a sharded checkpoint, or the folder of a run, whose latest complete
            checkpoint is read.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the checkpoint is damaged.
    """
    checkpoint = read_checkpoint(source)
    weights = {
        name.removeprefix(MODEL_PREFIX): tensor
        for name, tensor in checkpoint[MODEL].items()
        if name.startswith(MODEL_PREFIX)
    }
    return checkpoint[CONFIG_KEY], weights | checkpoint.get(AVERAGE, {})


def _is_first_rank() -> bool:
    variables = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # in Lightning's order
    return int(next((os.environ[name] for name in variables if name in os.environ), 0)) == 0
