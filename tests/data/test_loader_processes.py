import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from wnv.data.loader_processes import loader_context


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def serve(pipe: Connection) -> None:
    while True:
        pipe.send(pipe.recv())


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs sigwaitinfo")
def test_loaders_ignore_signals_of_others_and_end_with_their_trainings() -> None:
    context = loader_context()
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,), daemon=True)
    process.start()
    other_process = ["sh", "-c", f"kill -INT {process.pid}; kill -USR1 {process.pid}; kill -TERM {process.pid}"]
    try:
        for number in range(2):  # while it starts, and while it works
            assert os.spawnvp(os.P_WAIT, "sh", other_process) == 0
            here.send(number)
            assert here.poll(30), "the loader has exited"
            assert here.recv() == number
        process.terminate()
        process.join(10)
        assert process.exitcode == 0
    finally:
        process.kill()


def test_signals_that_arrive_while_loaders_start_reach_the_training() -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        process = loader_context().Process(target=os.getpid)
        process.start()
        os.kill(os.getpid(), signal.SIGTERM)
        process.join(10)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert process.exitcode == 0


@pytest.mark.slow  # spawned processes import torch
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_loaders_end_when_their_training_is_killed() -> None:
    script = """
import multiprocessing
from wnv.data.synthetic_datamodule import SyntheticDataModule
if __name__ == "__main__":
    data = SyntheticDataModule(image_size=(8, 12), num_context=1, num_target=1, batch_size=1, num_workers=1)
    batches = iter(data.train_dataloader())
    next(batches)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    input()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        loaders = [int(pid) for pid in run.stdout.readline().split()]
        assert len(loaders) == 1
        run.kill()
    deadline = time.monotonic() + 60
    while (left := [pid for pid in loaders if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
