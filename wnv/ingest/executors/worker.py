"""The process that a local worker is: takes tasks from a pipe, one at a time, until the pipe ends.

It is a new interpreter: a fork of a process with threads may hang, and multiprocessing's spawn would run the user's
script again in each worker.
"""

import logging
import os
import pickle
import queue
import signal
import threading
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from wnv.ingest.tasks import Stage, run_task
from wnv.runtime.lifetime import die_with_parent


def main(descriptor: int) -> None:
    """Work until the driver has no more to do; die when it dies."""
    os.set_inheritable(descriptor, False)  # the driver sees our end by the pipe's: no child of ours may keep it open
    parent = os.getppid()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            _die_at_once()
        raise SystemExit(128 + number)  # half-written files are cleared away on the way out

    signal.signal(signal.SIGTERM, leave)
    die_with_parent(signal.SIGTERM)
    connection = Connection(descriptor)
    sending = threading.Lock()
    logging.getLogger().addHandler(_Forward(connection, sending))
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, messages), daemon=True).start()
    try:
        _work(connection, sending, messages)
    except SystemExit:
        # What the task has started goes too. If it was the driver's end that was signalled, that may not show yet: a
        # process whose threads end one by one is a parent as long as there is one of them.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(os.getpgid(0), signal.SIGTERM)
        raise


def _work(connection: Connection, sending: threading.Lock, messages: "queue.SimpleQueue[Any]") -> None:
    stages: dict[int, Stage] = {}
    while (message := messages.get()) is not None:
        number, pickled, task = message
        if number not in stages:
            try:
                stages[number] = pickle.loads(pickled)
            except Exception as error:
                with sending:
                    connection.send(("broken", f"{type(error).__name__}: {error}"))
                return
        outcome = run_task(stages[number], task)
        with sending:
            connection.send(("done", outcome))


def _receive(connection: Connection, messages: "queue.SimpleQueue[Any]") -> None:
    try:
        while True:
            message = connection.recv()
            messages.put(message)
            if message is None:
                return
    except (EOFError, OSError):
        _die_at_once()  # the driver has not taken leave: it is gone


def _die_at_once() -> None:
    """End this process and all that it has started: the next run may begin any moment."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


class _Forward(logging.Handler):
    """Sends warnings to the driver, which has the terminal."""

    def __init__(self, connection: Connection, sending: threading.Lock) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection
        self._sending = sending

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with self._sending:
                self._connection.send(("log", (record.name, record.levelno, record.getMessage())))
        except OSError:
            pass  # the driver is gone, and so are we in a moment
