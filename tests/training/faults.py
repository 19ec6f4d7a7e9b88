"""What can go wrong in a run, on order: a callback for the runs that test_faults.py starts."""

import os
import signal
import subprocess
import time
from pathlib import Path

import lightning as L
import torch
from typing_extensions import override

from wnv.data.synthetic import SyntheticDataset
from wnv.types import Batch


class Fault(L.Callback):
    """Does `what` on rank `rank` (on all where it is -1) when `at_step` steps are done, and notes the time in `stamp`.

    Args:
        what: A signal's name, or `parent` for a SIGTERM to what started the process; `kill_saving` for a SIGKILL after
            `num_bytes` of the checkpoint of that step; `full` and `unwritable` for the disk under `folder`; `error`,
            raised by the dataset; `spoil` for pictures of a batch that are NaN.
        also: A signal for the other ranks, sent while the checkpoint after it is being saved.
    """

    def __init__(
        self,
        *,
        what: str,
        at_step: int,
        folder: str,
        stamp: str,
        rank: int = -1,
        also: str | None = None,
        num_bytes: int = 0,
    ) -> None:
        self.what, self.at_step, self.rank, self.also, self.num_bytes = what, at_step, rank, also, num_bytes
        self.folder, self.stamp = Path(folder), Path(stamp)
        self.is_hit = self.is_done = False

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.is_hit = self.rank in (-1, trainer.global_rank)
        if self.is_hit and self.what == "kill_saving":
            save = torch.save
            torch.save = lambda checkpoint, file: save(
                checkpoint, _Deadly(file, self) if trainer.global_step == self.at_step else file
            )

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step != self.at_step or self.is_done or not self.is_hit or self.what == "kill_saving":
            return
        self.is_done = True
        self.note_time()
        if self.what.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, self.what))
        elif self.what == "parent":
            os.kill(os.getppid(), signal.SIGTERM)
        elif self.what == "spoil":
            batch.target.images.fill_(float("nan"))
        elif self.what == "full":
            _fill(self.folder / "ballast")
        elif self.what == "unwritable" and os.geteuid() != 0:
            self.folder.chmod(0o500)
        elif self.what == "unwritable":
            subprocess.run(["chattr", "+i", self.folder], check=True)
        elif self.what == "error":
            SyntheticDataset.__getitems__ = _raise_damaged

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict) -> None:
        if self.also is not None and not self.is_hit and trainer.global_step > self.at_step:
            os.kill(os.getpid(), getattr(signal, self.also))

    def note_time(self) -> None:
        self.stamp.write_text(str(time.time()))


class _Deadly:
    """A file that ends its process in the middle of a write."""

    def __init__(self, file: object, fault: Fault) -> None:
        self.file, self.fault, self.left = file, fault, fault.num_bytes

    def write(self, content: bytes) -> int:
        if len(content) > self.left:
            self.file.write(bytes(content)[: self.left])
            self.file.flush()
            self.fault.note_time()
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= len(content)
        return self.file.write(content)

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


def _fill(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError:  # no space left
        os.close(descriptor)


def _raise_damaged(dataset: SyntheticDataset, keys: object) -> None:
    raise RuntimeError("this scene is damaged")
