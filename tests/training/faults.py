"""Fault injection: a callback for the runs that test_faults.py starts."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import lightning as L
from typing_extensions import override

from wnv.synthetic.dataset import SyntheticDataset
from wnv.types import Batch


class Fault(L.Callback):
    """Causes the fault `what` on rank `rank` (-1: on all) after `at_step` steps, and writes the time to `stamp`.

    Args:
        what: A signal's name, or `parent` for a SIGTERM to the parent process; `kill_saving` for a SIGKILL while
            the checkpoint of that step is saved; `full` and `unwritable` for the disk under `folder`; `error`, raised
            by the dataset; `spoil` for pictures of a batch that are NaN.
        also: A signal for the other ranks, sent while the checkpoint after it is being saved.
        share: Position of the kill in the save, 0..1 of the file system calls of the previous save.
        save_steps: Steps between two saves.
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
        share: float = 0.0,
        save_steps: int = 0,
    ) -> None:
        self.what, self.at_step, self.rank, self.also = what, at_step, rank, also
        self.share, self.save_steps = share, save_steps
        self.folder, self.stamp = Path(folder), Path(stamp)
        self.is_hit = self.is_done = False
        self.moments: _Moments | None = None

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.is_hit = self.rank in (-1, trainer.global_rank)
        if self.is_hit and self.what == "kill_saving":
            self.moments = _Moments(self)

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if self.moments is not None:
            self.moments.save_has_ended()
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
        if self.moments is not None and trainer.global_step in (self.at_step - self.save_steps, self.at_step):
            self.moments.save_begins(is_last=trainer.global_step == self.at_step)
        if self.also is not None and not self.is_hit and trainer.global_step > self.at_step:
            os.kill(os.getpid(), getattr(signal, self.also))

    def note_time(self) -> None:
        self.stamp.write_text(str(time.time()))


class _Moments:
    """Count the file system calls of a save; in the second save, kill the process between two of them.

    This hits every window, however short: between a rename and the marker, before a link is set, during removals.
    """

    EVENTS = ("open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.times: list[float] = []  # of the events of the first save
        self.num_seen = 0
        self.state = "idle"
        fsync = os.fsync
        os.fsync = lambda descriptor: (self.see("fsync"), fsync(descriptor))[1]
        sys.addaudithook(self._hear)

    def save_begins(self, *, is_last: bool) -> None:
        self.state = "deadly" if is_last else "counting"
        self.see("begin")

    def save_has_ended(self) -> None:
        if self.state == "deadly":
            self._kill()
        if self.state == "counting":
            self.see("end")
        self.state = "idle"

    def see(self, event: str) -> None:
        if self.state == "counting":
            self.times.append(time.monotonic())
        elif self.state == "deadly":
            number, part = divmod(self.fault.share * (len(self.times) - 1), 1)
            if self.num_seen == number:
                pause = part * (self.times[int(number) + 1] - self.times[int(number)])
                threading.Timer(pause, self._kill).start()
            self.num_seen += 1

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.state == "idle" or event not in self.EVENTS:
            return
        is_read = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""
        is_ours = str(self.fault.folder) in path or (path and not os.path.isabs(path))  # relative in rmtree
        if is_ours and not is_read and not path.endswith((".csv", ".log", ".yaml")):
            self.see(event)

    def _kill(self) -> None:
        self.fault.note_time()
        os.kill(os.getpid(), signal.SIGKILL)


def _fill(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError:  # no space left
        os.close(descriptor)


def _raise_damaged(dataset: SyntheticDataset, keys: object) -> None:
    raise RuntimeError("this scene is damaged")
