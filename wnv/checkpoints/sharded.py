"""Sharded checkpoints: every process writes its shards, in the format of `torch.distributed.checkpoint`.

A folder holds one file of tensors per process (`__0_0.distcp`), their index (`.metadata`), everything else (`meta.pt`)
and, once all of it is on disk, a marker (`complete`). No process ever holds the whole model, and any number of
processes can read the checkpoint.
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
    sharded_folder,
    unfinished_name,
    write_error,
)
from wnv.runtime.atomic import atomic_file

MODEL = "state_dict"
AVERAGE = "ema_state_dict"
OPTIMIZERS = "optimizer_states"
TREES = (MODEL, AVERAGE, OPTIMIZERS)
_PATHS = "tensor_paths"

TensorPath = tuple[str | int, ...]


def save_sharded(checkpoint: dict[str, Any], pointer: Path) -> None:
    """Write a checkpoint beside `pointer`, which becomes a link to it; all processes call this together.

    Args:
        checkpoint: Lightning's checkpoint, in which tensors are this process's shards.
        pointer: `last.ckpt` or `best.ckpt` of a run.

    Raises:
        OSError: On all processes if one of them cannot write; earlier checkpoints are kept.
    """
    step = checkpoint["global_step"]
    folder = sharded_folder(pointer, step=step)
    tensors: dict[TensorPath, Tensor] = {}
    rest = {name: _extract(part, (name,), tensors) if name in TREES else part for name, part in checkpoint.items()}
    rest[_PATHS] = list(tensors)
    _on_rank_0(lambda: begin_sharded(folder), folder)
    try:
        _write_shards({_key(path): tensor for path, tensor in tensors.items()}, unfinished_name(folder))
        _on_rank_0(lambda: _write_meta(rest, unfinished_name(folder) / META), folder)
        _on_rank_0(lambda: finish_sharded(folder, pointer=pointer, step=step), folder)
    except OSError:
        _on_rank_0(lambda: _remove(unfinished_name(folder)), folder)
        raise


def read_meta(folder: Path) -> dict[str, Any]:
    """Read everything but the tensors: step, loops, schedules, the model's configuration, ...

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
    """Read a sharded checkpoint in the form of a whole one.

    Args:
        folder: The checkpoint.
        trees: Which of the three trees of tensors to read.
        like: Maps the path of a tensor to a tensor with the sharding to read it in, or None to read it whole; all
            processes then read together, each its shards. Without it this process alone reads whole tensors on the CPU.

    Raises:
        ValueError: If the checkpoint is not complete, or damaged.
    """
    checkpoint = read_meta(folder)
    paths = [path for path in checkpoint.pop(_PATHS) if path[0] in trees]
    for path, tensor in _read_shards(folder, paths, like).items():
        _put(checkpoint, path, tensor)
    return {name: part for name, part in checkpoint.items() if name in trees or name not in TREES}


# Classes in `.metadata`.
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
    """Raise the OS error of a failed write, instead of torch's error, so that other processes see it."""

    @override
    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future:
        try:
            return super().write_data(plan, planner)
        except (OSError, RuntimeError) as error:
            if (cause := file_error(error)) is None:
                raise
            raise OSError(cause.errno, cause.strerror) from error


class _ShardReader(FileSystemReader):
    """Read `.metadata`, a pickle, without running code from it."""

    @override
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / ".metadata", "rb") as file:
            metadata = _MetadataUnpickler(file).load()
        if not isinstance(metadata, Metadata) or metadata.storage_meta is None:
            raise pickle.UnpicklingError(".metadata holds no Metadata")
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    @override
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in _METADATA_CLASSES.get(module, ()):
            raise pickle.UnpicklingError(f".metadata must not contain {module}.{name}")
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
        with _without_group_warning():
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
        with _without_group_warning():
            dcp.save(tensors, storage_writer=_ShardWriter(folder))
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        if (failure := write_error(cause, folder, rank=rank)) is None:
            raise RuntimeError(f"rank {rank} cannot write its shards of {folder}: {cause!r}") from error
        raise failure from error


@contextmanager
def _without_group_warning() -> Iterator[None]:
    """Silence torch's warning about a missing process group; here it is intended."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield


def _write_meta(rest: dict[str, Any], path: Path) -> None:
    with atomic_file(path) as file:
        torch.save(rest, file)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _on_rank_0(work: Callable[[], Any], path: Path) -> None:
    """Call `work` on rank 0; raise its error on all processes."""
    failure = None
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            work()
        except (OSError, RuntimeError) as error:
            failure = write_error(error, path) or error
    if dist.is_initialized():
        failure = [failure]
        dist.broadcast_object_list(failure, src=0)
        failure = failure[0]
    if failure is not None:
        raise failure


def _extract(tree: Any, path: TensorPath, tensors: dict[TensorPath, Tensor]) -> Any:
    """Move the tensors of a tree of dictionaries and lists to `tensors`, and leave None in their places."""
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return None
    if isinstance(tree, dict):
        return {name: _extract(part, (*path, name), tensors) for name, part in tree.items()}
    if isinstance(tree, list):
        return [_extract(part, (*path, number), tensors) for number, part in enumerate(tree)]
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
