"""The event stream of `perstack run`: one JSON object a line, written beside the job."""

import json
import math
from collections.abc import Callable
from typing import Self

import anyio
from anyio import to_thread

from perstack.cli.output import Terminal
from perstack.core.checkpoint import Checkpoint
from perstack.core.passing import PerstackEvent
from perstack.core.wire import to_wire

Heard = tuple[PerstackEvent, Checkpoint | None]


class EventLines:
    """Writes events as they come; a slow reader of stdout holds up the lines, but not the job.

    Used in a `with` block around the job; what is heard after it is not written.

    Args:
        terminal: Where the lines go.
        types: The types to write; all if `None`.
    """

    def __init__(self, terminal: Terminal, types: frozenset[str] | None) -> None:
        self._terminal = terminal
        self._types = types
        # Without a limit: an event that is left out would be a hole in the stream.
        self._send, self._receive = anyio.create_memory_object_stream[Heard](math.inf)
        self.written = anyio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._send.close()
        self._receive.close()

    def heard(self, event: PerstackEvent, checkpoint: Checkpoint | None) -> None:
        """Take an event in. Satisfies the runtime's `Listener`."""
        is_read = self._send.statistics().open_receive_streams > 0
        if is_read and (self._types is None or event.type in self._types):
            self._send.send_nowait((event, checkpoint))

    def close(self) -> None:
        """No event will follow."""
        self._send.close()

    async def write(self, give_up: Callable[[], None]) -> None:
        """Write until `close` and all is written; then `written` is set.

        Args:
            give_up: Called once if the reader has gone away; later events go nowhere.
        """
        async for first in self._receive:
            batch = [first]
            while self._receive.statistics().current_buffer_used:
                batch.append(self._receive.receive_nowait())
            had_reader = self._terminal.has_reader
            await to_thread.run_sync(self._write, batch)
            if had_reader and not self._terminal.has_reader:
                give_up()
        self.written.set()

    def _write(self, batch: list[Heard]) -> None:
        lines = [
            json.dumps(to_wire(event, checkpoint), ensure_ascii=False, separators=(",", ":"))
            for event, checkpoint in batch
        ]
        self._terminal.write("".join(f"{line}\n" for line in lines))
