"""The process of a local worker: runs tasks from a pipe, one at a time.

It is a new interpreter, since forking a process with threads may hang, and multiprocessing's spawn would import the
user's script in each worker.
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
    """Run tasks until the driver closes the pipe or ends."""
    os.set_inheritable(descriptor, False)  # children must not keep the pipe open, by which the driver notices our end
    parent = os.getppid()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            _die_at_once()
        raise SystemExit(128 + number)  # unwinding removes half-written files

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
        # Ends the task's children too. A driver whose threads are still ending may not look dead yet.
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
        _die_at_once()  # the pipe closed without a farewell: the driver has died


def _die_at_once() -> None:
    """Kill this process and its children, since the next run may start at any moment."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


class _Forward(logging.Handler):
    """Sends warnings to the driver, which logs them."""

    def __init__(self, connection: Connection, sending: threading.Lock) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection
        self._sending = sending

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with self._sending:
                self._connection.send(("log", (record.name, record.levelno, record.getMessage())))
        except OSError:
            pass  # the driver has died
