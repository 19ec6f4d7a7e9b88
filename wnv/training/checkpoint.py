"""Write checkpoints completely or not at all (reading: `wnv.checkpoints`)."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from wnv.checkpoints.layout import LAST, keep_as_previous, write_error
from wnv.checkpoints.sharded import read_sharded
from wnv.runtime.atomic import atomic_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint under a temporary name in its own folder, flush it to disk, and rename it.

    A killed process thus leaves the previous checkpoint intact, and the next write removes its temporary file. Once a
    new `last.ckpt` is on disk, its predecessor becomes `last-previous.ckpt`. (Lightning writes to the system's
    temporary folder and moves the file, which is not atomic across file systems, and ignores unwritable folders.)
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Write a checkpoint to a local path.

        Raises:
            TypeError: If storage options are given.
            OSError: If the file cannot be written; earlier checkpoints are kept.
        """
        if storage_options is not None:
            raise TypeError(f"{type(self).__name__} has no storage_options, got {storage_options!r}")
        path = Path(path)
        try:
            if path.is_symlink():  # to a sharded checkpoint, which is found without the link
                path.unlink()
            with atomic_file(path, overwrite=True) as file:
                torch.save(checkpoint, file)
                if path.name == LAST and path.exists():
                    file.flush()
                    os.fsync(file.fileno())
                    keep_as_previous(path)
        except (OSError, RuntimeError) as error:
            if (failure := write_error(error, path)) is None:
                raise
            raise failure from error

    @override
    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; a sharded one in the form of a whole file."""
        if Path(path).is_dir():
            return read_sharded(Path(path))
        return super().load_checkpoint(str(path), map_location, weights_only)
