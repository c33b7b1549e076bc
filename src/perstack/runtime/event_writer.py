"""Writes the events of a run to the store, then publishes them."""

from collections.abc import Sequence
from typing import Protocol

import anyio

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RunEvent
from perstack.runtime.ports import Lease, Listener
from perstack.runtime.telemetry_port import RunSpan


class EventLog(Protocol):
    """The part of a `Store` that an `EventWriter` uses."""

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        """Write the events in one transaction; they are durable on return.

        Raises:
            LeaseLostError: Another process owns the job now; nothing was written.
            StoreError: The store cannot be written; nothing was written.
        """
        ...


class EventWriter:
    """Collects a run's events and makes them durable, in one transaction, before it acts on them.

    Events that are decided without an effect between them share a commit. Every effect begins with
    `flush`, and only durable events are published.
    """

    def __init__(self, store: EventLog, lease: Lease, span: RunSpan, listener: Listener) -> None:
        self._store = store
        self._lease = lease
        self._span = span
        self._listener = listener
        self._pending: list[tuple[RunEvent, Checkpoint]] = []

    def add(self, event: RunEvent, checkpoint: Checkpoint) -> None:
        """Queue an event with the checkpoint that it led to."""
        self._pending.append((event, checkpoint))

    async def flush(self) -> None:
        """Write the queued events, then pass them to the span and the listener.

        A write once begun is finished even if the run is cancelled meanwhile.

        Raises:
            LeaseLostError: Another process drives the job; nothing was written.
            StoreError: The store cannot be written; nothing was written.
        """
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        with anyio.CancelScope(shield=True):
            await self._store.append([event for event, _ in pending], self._lease)
        for event, checkpoint in pending:
            self._span.observe(event, checkpoint)
            self._listener(event, checkpoint)
