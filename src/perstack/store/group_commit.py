"""Transactions: what many jobs hand over at the same time becomes durable at once, in one thread.

A job that is alone writes in the thread of its event loop: handing over to another thread and back
takes as long as the disk.
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import current_token

from perstack.errors import PerstackError, StoreError
from perstack.store.connection import BUSY_SECONDS, begin_immediate, store_error

MAX_TASKS_PER_COMMIT = 512
SLOW_COMMIT_SECONDS = 0.002
"""A commit that takes longer is not worth stopping an event loop for."""

T = TypeVar("T")


class WriteTask(Generic[T]):
    """Something to be done in a transaction, and what came of it once `done` is set."""

    def __init__(self, apply: Callable[[sqlite3.Connection], T]) -> None:
        self.apply = apply
        self.done = anyio.Event()
        self.error: Exception | None = None
        self.result: T | None = None

    def get_result(self) -> T:
        """What `apply` returned.

        Raises:
            Exception: What kept it from being durable.
        """
        if self.error is not None:
            raise self.error
        return cast("T", self.result)


class GroupCommitter:
    """Owns the connection for writing. To be made on the event loop that submits to it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._loop_token = current_token()
        self._queue: queue.SimpleQueue[WriteTask[Any] | None] = queue.SimpleQueue()
        self._is_closed = False
        # Held by the thread that uses the connection.
        self._turn = threading.Lock()
        self._last_commit_seconds = 0.0
        self._waits_for_others = True
        # A daemon, so that a process whose loop died before `close` can still end.
        self._thread = threading.Thread(target=self._run, name="perstack-store", daemon=True)
        self._thread.start()

    async def submit(
        self, apply: Callable[[sqlite3.Connection], T], *, is_alone: bool = False
    ) -> T:
        """Run `apply` in a transaction; on return its effect is durable.

        What is handed over is finished, also if the caller is cancelled meanwhile. An exception out
        of `apply` undoes its own effect only.

        Args:
            apply: What to do in the transaction.
            is_alone: There is nobody to share the transaction with: it is made in this thread, if
                the connection is free, no other process writes and the disk was fast.

        Raises:
            StoreError: The transaction failed; nothing was written.
        """
        if self._is_closed:
            raise StoreError(f"{self._path} is closed already.")
        task = WriteTask(apply)
        if is_alone and self._commit_here(task):
            return task.get_result()
        self._queue.put(task)
        with anyio.CancelScope(shield=True):
            await task.done.wait()
        return task.get_result()

    async def close(self) -> None:
        """Finish what was handed over, then end the thread."""
        self._is_closed = True
        self._queue.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)

    def _run(self) -> None:
        while batch := self._next_batch():
            with self._turn:
                self._commit(batch)
            try:
                anyio.from_thread.run_sync(_set_done, batch, token=self._loop_token)
            except anyio.RunFinishedError:
                return  # the waiting task ended with its event loop

    def _next_batch(self) -> list[WriteTask[Any]]:
        batch: list[WriteTask[Any]] = []
        task = self._queue.get()
        while task is not None:
            batch.append(task)
            if len(batch) == MAX_TASKS_PER_COMMIT:
                return batch
            try:
                task = self._queue.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._queue.put(None)  # the end comes after this batch
        return batch

    def _commit_here(self, task: WriteTask[Any]) -> bool:
        if self._last_commit_seconds > SLOW_COMMIT_SECONDS:
            self._last_commit_seconds = 0.0
            return False
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._set_waiting(is_waiting=False)
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            # Most likely another process writes; the thread waits for it, or says what is wrong.
            self._turn.release()
            return False
        try:
            self._commit([task])
        finally:
            self._turn.release()
        return True

    def _set_waiting(self, *, is_waiting: bool) -> None:
        """Whether a transaction waits for those of other processes."""
        if self._waits_for_others is not is_waiting:
            milliseconds = round(BUSY_SECONDS * 1000) if is_waiting else 0
            self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
            self._waits_for_others = is_waiting

    def _commit(self, batch: list[WriteTask[Any]]) -> None:
        started_at = time.monotonic()
        try:
            if not self._connection.in_transaction:
                self._set_waiting(is_waiting=True)
                begin_immediate(self._connection)
            for task in batch:
                self._run_in_savepoint(task)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            for task in batch:
                task.error = store_error(error, self._path)
        self._last_commit_seconds = time.monotonic() - started_at

    def _run_in_savepoint(self, task: WriteTask[Any]) -> None:
        self._connection.execute("SAVEPOINT work")
        try:
            task.result = task.apply(self._connection)
        except sqlite3.IntegrityError as error:
            task.error = store_error(error, self._path)
        except sqlite3.Error:
            raise
        except PerstackError as error:
            task.error = error
        except Exception as error:  # noqa: BLE001 - a bug belongs to its caller, not to the others in the batch
            task.error = error
        if task.error is not None:
            self._connection.execute("ROLLBACK TO work")
        self._connection.execute("RELEASE work")

    def _rollback(self) -> None:
        try:
            # SQLite has rolled back by itself after the worst errors.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # the failure that led here is the one to report


def _set_done(batch: list[WriteTask[Any]]) -> None:
    for task in batch:
        task.done.set()
