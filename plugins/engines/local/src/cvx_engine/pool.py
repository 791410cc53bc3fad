"""Pool of decoder processes: one that crashes or times out fails only its current item."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from cvx_core import CvxError, InputError
from cvx_core.plugins import describe_error
from cvx_engine.base import Work

TRIES = 2
"""How often an input is tried that ends its process, or is not done in time."""


@dataclass(frozen=True)
class FailedItem:
    """Result for an item that could not be decoded; see `Work.failed`."""

    status: str
    message: str


def explain_batch(
    work: Work[Any, Any, Any], items: Iterable[Any], found: Iterable[Any]
) -> list[Any]:
    """Return the rows of a batch, given for each item what it holds or a `FailedItem`."""
    rows, decoded = [], []
    for item, one in zip(items, found, strict=True):
        if isinstance(one, FailedItem):
            rows.append(work.failed(item, one.status, one.message))
        else:
            decoded.append(one)
    return rows + (work.explain(decoded) if decoded else [])


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Connection
    busy: Any = None
    since: float = 0.0


@dataclass
class _Task:
    item: Any
    tries: int = 0


class DecoderPool:
    """Decodes items in processes of their own, in the order in which they are submitted.

    Parameters
    ----------
    decode
        From an item to what it holds; see `Work.decoder`.
    timeout
        Seconds that one item may take.
    count
        How many processes.
    """

    def __init__(self, decode: Callable[[Any], Any], timeout: float, count: int) -> None:
        self._decode, self._timeout = decode, timeout
        # A fork shares the model and the data set, whatever they are; elsewhere they are pickled.
        self._context: Any = multiprocessing.get_context(
            "fork" if sys.platform == "linux" else "spawn"
        )
        self._waiting: deque[_Task] = deque()
        self._done: dict[int, Any] = {}
        self._changed = threading.Condition()
        self._over = False
        self._failure: BaseException | None = None
        self._bell, self._ring = self._context.Pipe(duplex=False)
        self._workers: list[_Worker] = []
        for _ in range(count):
            self._workers.append(self._begin())
        self._thread = threading.Thread(target=self._serve, name="cvx-decoders", daemon=True)

    def __enter__(self) -> DecoderPool:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over = True
        self._ring.send_bytes(b"!")
        self._thread.join()
        for worker in self._workers:
            _end(worker)
        self._bell.close()
        self._ring.close()

    def submit(self, items: Iterable[Any]) -> None:
        """Have items decoded, after those that wait already."""
        with self._changed:
            self._waiting.extend(_Task(item) for item in items)
        self._ring.send_bytes(b"!")

    def take(self, item: Any) -> Any:
        """Return what an item holds, or a `FailedItem`; waits for it.

        Raises
        ------
        CvxError
            If no process can be begun.
        """
        with self._changed:
            self._changed.wait_for(lambda: item.id in self._done or self._failure is not None)
            if self._failure is not None:
                raise CvxError(
                    f"The decoding processes failed: {describe_error(self._failure)}",
                    "If memory is short, use fewer processes: --engine local:workers=1.",
                ) from self._failure
            return self._done.pop(item.id)

    def _serve(self) -> None:
        try:
            while not self._over:
                self._hand_out()
                self._hear()
        # The thread's end: whoever waits for it must hear why.
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.busy is not None or not self._waiting:
                continue
            with self._changed:
                worker.busy = self._waiting.popleft()
            worker.since = time.monotonic()
            try:
                worker.pipe.send(worker.busy.item)
            except OSError:
                self._lost(worker)

    def _hear(self) -> None:
        busy = [worker for worker in self._workers if worker.busy is not None]
        patience = 1.0
        if busy:
            first = min(worker.since for worker in busy) + self._timeout
            patience = min(max(first - time.monotonic(), 0.0), patience)
        ready = set(wait([self._bell, *(worker.pipe for worker in busy)], patience))
        if self._bell in ready:
            self._bell.recv_bytes()
        for worker in busy:
            if worker.pipe in ready:
                try:
                    self._put(worker.busy.item, worker.pipe.recv())
                except (EOFError, OSError):
                    self._lost(worker)
                else:
                    worker.busy = None
            elif time.monotonic() - worker.since > self._timeout:
                self._lost(worker, in_time=False)

    def _lost(self, worker: _Worker, *, in_time: bool = True) -> None:
        """Begin another process in place of one that died or hangs, and try its item again."""
        task, code = worker.busy, _end(worker)
        task.tries += 1
        if task.tries < TRIES:
            with self._changed:
                self._waiting.appendleft(task)
        else:
            how = f"crashed the process ({_cause(code)})"
            if not in_time:
                how = f"timed out after {self._timeout:g} s"
            message = (
                f"Decoding {how}, {TRIES} times. Check the file; other inputs are not affected."
            )
            self._put(task.item, FailedItem("crashed", message))
        self._workers[self._workers.index(worker)] = self._begin()

    def _put(self, item: Any, found: Any) -> None:
        with self._changed:
            self._done[item.id] = found
            self._changed.notify_all()

    def _begin(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        # A copy of our ends in a worker would keep the others from hearing that we are gone.
        inherited = [worker.pipe for worker in self._workers] + [ours, self._bell, self._ring]
        forked = self._context.get_start_method() == "fork"
        process = self._context.Process(
            target=_decode_all,
            args=(self._decode, theirs, inherited if forked else []),
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)


def _end(worker: _Worker) -> int | None:
    worker.pipe.close()
    worker.process.join(0.2)  # one that waits for work ends now by itself
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    code: int | None = worker.process.exitcode
    return code


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _decode_all(
    decode: Callable[[Any], Any], pipe: Connection, inherited: list[Connection]
) -> None:
    """Decode what comes through a pipe, until it is closed."""
    for other in inherited:
        other.close()
    # Ctrl-C is for the process that holds the model: it finishes its block.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    end_with_parent(os.getppid())
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            found: Any = decode(item)
        except InputError as error:
            found = FailedItem("bad input", str(error))
        # The boundary of one input: whatever it does, the others go on.
        except Exception as error:
            text = str(error) if isinstance(error, CvxError) else describe_error(error)
            found = FailedItem("bad input", text)
        pipe.send(found)


def end_with_parent(parent: int) -> None:
    """End this process with its parent, however that ends and whatever this one does; on Linux."""
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)
