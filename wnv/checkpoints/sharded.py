"""Checkpoints that every process writes its own share of, in the format of `torch.distributed.checkpoint`.

A folder holds a file of tensors a process (`__0_0.distcp`), which tensors those are (`.metadata`), all that is not a
tensor (`meta.pt`) and, once everything is on the disk, a marker (`complete`). No process ever holds the whole model to
write it, and any number of processes read it, each what it needs.
"""

import pickle
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.futures import Future
from typing_extensions import override

from wnv.checkpoints.layout import (
    META,
    begin_sharded,
    check_complete,
    file_error,
    finish_sharded,
    not_written,
    sharded_folder,
    unfinished_name,
)
from wnv.runtime.atomic import atomic_file

MODEL = "state_dict"
AVERAGE = "ema_state_dict"
OPTIMIZERS = "optimizer_states"
TREES = (MODEL, AVERAGE, OPTIMIZERS)
_PATHS = "tensor_paths"

TensorPath = tuple[str | int, ...]


def save_sharded(checkpoint: dict[str, Any], pointer: Path) -> None:
    """Write a checkpoint beside `pointer`, which then points to it; all processes call this together.

    Args:
        checkpoint: What Lightning has gathered; weights, average and optimiser states are of this process' share.
        pointer: `last.ckpt` or `best.ckpt` of a run.

    Raises:
        OSError: On all processes, if one of them cannot write; earlier checkpoints are as they were.
    """
    step = checkpoint["global_step"]
    folder = sharded_folder(pointer, step=step)
    tensors: dict[TensorPath, Tensor] = {}
    rest = {name: _taken_out(part, (name,), tensors) if name in TREES else part for name, part in checkpoint.items()}
    rest[_PATHS] = list(tensors)
    _on_first(lambda: begin_sharded(folder), folder)
    try:
        _write_shards({_key(path): tensor for path, tensor in tensors.items()}, unfinished_name(folder))
        _on_first(lambda: _write_meta(rest, unfinished_name(folder) / META), folder)
        _on_first(lambda: finish_sharded(folder, pointer=pointer, step=step), folder)
    except OSError:
        _on_first(lambda: _remove(unfinished_name(folder)), folder)
        raise


def read_meta(folder: Path) -> dict[str, Any]:
    """What of a sharded checkpoint is not a tensor: step, loops, schedules, the model's configuration, ...

    Raises:
        ValueError: If the checkpoint is not complete, or damaged.
    """
    check_complete(folder)
    try:
        return torch.load(folder / META, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise ValueError(f"{folder} is damaged: {META}: {str(error).splitlines()[0]}") from error


def read_sharded(
    folder: Path, *, trees: Collection[str] = TREES, like: Callable[[TensorPath], Tensor | None] | None = None
) -> dict[str, Any]:
    """A sharded checkpoint in the form of a whole one.

    Args:
        folder: The checkpoint.
        trees: Which of the three trees of tensors are read; the others are left out.
        like: Gives for the place of a tensor one that is sharded as it is to be, or None where each process is to hold
            the whole. All processes then read together, each its share. Without it this process reads by itself, on the
            CPU, and needs no others.

    Raises:
        ValueError: If the checkpoint is not complete, or damaged.
    """
    checkpoint = read_meta(folder)
    paths = [path for path in checkpoint.pop(_PATHS) if path[0] in trees]
    for path, tensor in _read_shards(folder, paths, like).items():
        _put(checkpoint, path, tensor)
    return {name: part for name, part in checkpoint.items() if name in trees or name not in TREES}


# What `.metadata` is made of.
_METADATA_CLASSES = {
    "torch.distributed.checkpoint.metadata": (
        "Metadata",
        "TensorStorageMetadata",
        "TensorProperties",
        "ChunkStorageMetadata",
        "MetadataIndex",
        "StorageMeta",
        "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.serialization": ("_get_layout",),
    "torch": ("Size",),
    "pathlib": ("Path", "PosixPath", "PurePosixPath"),
    "pathlib._local": ("Path", "PosixPath", "PurePosixPath"),
}


class _ShardWriter(FileSystemWriter):
    """Tells a full disk by the file system's error, of which other processes would see torch's alone."""

    @override
    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future:
        try:
            return super().write_data(plan, planner)
        except (OSError, RuntimeError) as error:
            if (cause := file_error(error)) is None:
                raise
            raise OSError(cause.errno, cause.strerror) from error


class _ShardReader(FileSystemReader):
    """Reads `.metadata`, which is a pickle, without running any code of it."""

    @override
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / ".metadata", "rb") as file:
            metadata = _MetadataUnpickler(file).load()
        if not isinstance(metadata, Metadata) or metadata.storage_meta is None:
            raise pickle.UnpicklingError(".metadata does not hold what it should")
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    @override
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in _METADATA_CLASSES.get(module, ()):
            raise pickle.UnpicklingError(f".metadata names {module}.{name}, which it has no use for")
        return super().find_class(module, name)


def _read_shards(
    folder: Path, paths: list[TensorPath], like: Callable[[TensorPath], Tensor | None] | None
) -> dict[TensorPath, Tensor]:
    if not paths:
        return {}
    reader = _ShardReader(folder)
    try:
        stored = reader.read_metadata().state_dict_metadata
        tensors = {
            path: _empty(cast(TensorStorageMetadata, stored[_key(path)]), None if like is None else like(path))
            for path in paths
        }
        with _no_group_is_no_news():
            named = {_key(path): tensor for path, tensor in tensors.items()}
            dcp.load(named, storage_reader=reader, no_dist=like is None)
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        raise ValueError(f"{folder} cannot be read, on rank {rank}: {cause}") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError) as error:
        raise ValueError(f"{folder} cannot be read: {type(error).__name__}: {error}") from error
    return tensors


def _write_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    try:
        with _no_group_is_no_news():
            dcp.save(tensors, storage_writer=_ShardWriter(folder))
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        if (told := not_written(cause, folder, rank=rank)) is None:
            raise RuntimeError(f"rank {rank} could not write its share of {folder}: {cause!r}") from error
        raise told from error


@contextmanager
def _no_group_is_no_news() -> Iterator[None]:
    """A single process, or one that reads by itself, is what was meant; torch warns of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield


def _write_meta(rest: dict[str, Any], path: Path) -> None:
    with atomic_file(path) as file:
        torch.save(rest, file)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _on_first(work: Callable[[], Any], path: Path) -> None:
    """Let the first process do what one is to do, and all know whether it went well."""
    failure = None
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            work()
        except (OSError, RuntimeError) as error:
            failure = not_written(error, path) or error
    if dist.is_initialized():
        failure = [failure]
        dist.broadcast_object_list(failure, src=0)
        failure = failure[0]
    if failure is not None:
        raise failure


def _taken_out(tree: Any, path: TensorPath, tensors: dict[TensorPath, Tensor]) -> Any:
    """A tree of dictionaries and lists in which None stands for tensors, which go to `tensors`."""
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return None
    if isinstance(tree, dict):
        return {name: _taken_out(part, (*path, name), tensors) for name, part in tree.items()}
    if isinstance(tree, list):
        return [_taken_out(part, (*path, number), tensors) for number, part in enumerate(tree)]
    return tree


def _put(tree: Any, path: TensorPath, tensor: Tensor) -> None:
    for name in path[:-1]:
        tree = tree[name]
    tree[path[-1]] = tensor


def _key(path: TensorPath) -> str:
    return "/".join(map(str, path))


def _empty(stored: TensorStorageMetadata, like: Tensor | None) -> Tensor:
    if like is None or like.shape != stored.size:
        return torch.empty(stored.size, dtype=stored.properties.dtype)
    return torch.empty_like(like, dtype=stored.properties.dtype)
