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
    """Resolve a checkpoint: a file or sharded folder itself, or the latest complete checkpoint of a run's folder.

    Logs a warning that names checkpoints skipped because they are damaged or incomplete.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If no checkpoint can be read.
    """
    path = Path(source)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(
            f"no checkpoint at {path}: no such file or folder; give the folder of a run, or a .ckpt file"
        )
    if is_sharded(path.resolve()):  # the folder, because the link may change
        return path.resolve() if path.is_symlink() else path
    there = [path / name for name in (LAST, PREVIOUS, BEST) if (path / name).is_file()] + sharded_folders(path)
    if not there:
        raise FileNotFoundError(
            f"no checkpoint in {path}: neither {LAST} nor {BEST}; give the folder of a run, or a .ckpt file"
        )
    steps = {}
    skipped = [f"{unfinished} is left from an interrupted save" for unfinished in unfinished_saves(path)]
    for checkpoint in there:
        try:
            steps[checkpoint] = _step(checkpoint)
        except ValueError as error:
            skipped.append(str(error))
    if not steps:
        raise ValueError(f"no complete checkpoint in {path}: {'; '.join(skipped)}")
    newest = max(steps, key=steps.__getitem__)  # at equal steps last.ckpt comes before best.ckpt
    if skipped and _is_first_rank():
        log.warning("using %s (step %d); skipped: %s", newest, steps[newest], "; ".join(skipped))
    return newest


def read_checkpoint(source: str | os.PathLike, *, trees: Collection[str] = (MODEL, AVERAGE)) -> dict[str, Any]:
    """Read the tensors and plain values of a checkpoint to the CPU, without running code from it.

    Args:
        source: A `.ckpt` file, the folder of a sharded checkpoint, or the folder of a run.
        trees: Which of `state_dict`, `ema_state_dict` and `optimizer_states` to read from a sharded checkpoint.
            (Tensors of a whole file are mapped, and read from disk only when used.)

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
            f"{path} is damaged or not a checkpoint: not a zip archive ({size} bytes); give a .ckpt file of wnv-train, "
            "or the folder of its run"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0].partition(" (Could this")[0]  # without torch's request for a bug report
        raise ValueError(f"{path} is damaged or not a checkpoint: {reason}") from error
    if not isinstance(checkpoint, dict) or not {MODEL, CONFIG_KEY} <= checkpoint.keys():
        raise ValueError(f"{path} is not a checkpoint of wnv-train: {MODEL} or {CONFIG_KEY} is missing")
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
