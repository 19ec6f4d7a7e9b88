import os
import signal
from multiprocessing.connection import Connection

import pytest

from wnv.data.loader_processes import loader_context


def serve(pipe: Connection) -> None:
    while True:
        pipe.send(pipe.recv())


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system does not tell who has sent a signal")
def test_what_is_sent_to_all_processes_does_not_end_loaders_but_their_training_does() -> None:
    context = loader_context()
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,), daemon=True)
    process.start()
    stranger = ["sh", "-c", f"kill -INT {process.pid}; kill -USR1 {process.pid}; kill -TERM {process.pid}"]
    try:
        for number in range(2):  # at its birth, and when it works
            assert os.spawnvp(os.P_WAIT, "sh", stranger) == 0
            here.send(number)
            assert here.poll(30), "it is gone"
            assert here.recv() == number
        process.terminate()
        process.join(10)
        assert process.exitcode == 0
    finally:
        process.kill()


def test_the_training_is_sent_what_came_while_it_started_loaders() -> None:
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
