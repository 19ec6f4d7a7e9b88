"""Write checkpoints completely or not at all (reading: `wnv.checkpoints`)."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from wnv.checkpoints.layout import LAST, keep_as_previous, not_written
from wnv.checkpoints.sharded import read_sharded
from wnv.runtime.atomic import atomic_file


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
        return super().load_checkpoint(str(path), map_location, weights_only)
