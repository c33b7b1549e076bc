"""Events of a job as JSON lines, and one line about how it ended."""

import json
import math
import shlex
from collections.abc import Callable
from typing import Self

import anyio
from anyio import to_thread

from perstack.cli.formatting import format_count, format_usage, shorten
from perstack.cli.terminal import Terminal
from perstack.core.checkpoint import Checkpoint
from perstack.core.elicitation import Question, answer_format
from perstack.core.events import StoredEvent
from perstack.core.full_wire import full_type, to_full_wire
from perstack.core.step import Step, StepTracker
from perstack.core.transient_events import PerstackEvent
from perstack.core.verification import format_verification_results
from perstack.core.wire import to_wire
from perstack.jobs import JobView

QueuedEvent = tuple[PerstackEvent, Checkpoint | None, Step | None]


class EventStreamWriter:
    """Writes events as they come; a slow reader of stdout delays the lines, but not the job.

    Used in a `with` block around the job; events published after it are not written.

    Args:
        terminal: Where the lines go.
        event_types: The types to write; all if `None`.
        is_full: Whether events have the full shape.
    """

    def __init__(
        self, terminal: Terminal, event_types: frozenset[str] | None, *, is_full: bool = False
    ) -> None:
        self._terminal = terminal
        self._event_types = event_types
        self._is_full = is_full
        self._steps = StepTracker(is_full=is_full)
        # Without a limit: an event that is left out would be a hole in the stream.
        self._send, self._receive = anyio.create_memory_object_stream[QueuedEvent](math.inf)
        self.finished = anyio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._send.close()
        self._receive.close()

    def on_event(self, event: PerstackEvent, checkpoint: Checkpoint | None) -> None:
        """Queue an event; a listener of the engine."""
        step: Step | None = None
        if isinstance(event, StoredEvent) and checkpoint is not None:
            step = self._steps.follow(event, checkpoint)
        event_type = full_type(event, step) if self._is_full else event.type
        is_receiving = self._send.statistics().open_receive_streams > 0
        if is_receiving and (self._event_types is None or event_type in self._event_types):
            self._send.send_nowait((event, checkpoint, step))

    def close(self) -> None:
        self._send.close()

    async def write_until_closed(self, on_reader_gone: Callable[[], None]) -> None:
        """Write all events until `close`, then set `finished`.

        Args:
            on_reader_gone: Called once if the reader has closed stdout; later events are dropped.
        """
        async for first in self._receive:
            batch = [first]
            while self._receive.statistics().current_buffer_used:
                batch.append(self._receive.receive_nowait())
            had_reader = self._terminal.has_reader
            await to_thread.run_sync(self._write_batch, batch)
            if had_reader and not self._terminal.has_reader:
                on_reader_gone()
        self.finished.set()

    def _write_batch(self, batch: list[QueuedEvent]) -> None:
        to_document = to_full_wire if self._is_full else to_wire
        lines = [
            json.dumps(to_document(*queued), ensure_ascii=False, separators=(",", ":"))
            for queued in batch
        ]
        self._terminal.write("".join(f"{line}\n" for line in lines))


_OUTCOME_LABELS = {
    "completed": "completed",
    "stoppedByInteractiveTool": "waiting for an answer",
    "stoppedByMaxSteps": "stopped: all steps are used",
    "stoppedByBudget": "stopped: the budget is used up",
    "stoppedByError": "failed",
    "stoppedByCancellation": "cancelled",
    "interrupted": "interrupted",
    "running": "running",
}
_NEXT_ACTIONS = {
    "completed": ("follow up", ("...",)),
    "stoppedByInteractiveTool": ("answer", ("...", "-i")),
}
"""What to do with a stopped job, and the words after the expert in the command that does it."""


def summary_line(view: JobView, repeated_options: tuple[str, ...]) -> str:
    """How the job ended: status, steps, tokens, its id and the command that continues it."""
    job = view.job
    outcome = _OUTCOME_LABELS[job.status]
    if job.status == "stoppedByError" and view.checkpoint.error is not None:
        outcome += f" ({shorten(view.checkpoint.error.message, 200)})"
    if job.status == "stoppedByBudget" and view.checkpoint.exhausted is not None:
        outcome = f"stopped: {view.checkpoint.exhausted.message.rstrip('.')}"
    if view.questions:
        outcome += f" ({'; '.join(_format_question(question) for question in view.questions)})"
    if job.status == "completed" and view.verifications:
        outcome += f", verified: {shorten(format_verification_results(view.verifications), 400)}"
    action, words = _NEXT_ACTIONS.get(job.status, ("resume", ()))
    query = (view.checkpoint.expert.key, *words) if words else ()
    command = ("perstack", "run", *query, "--continue-job", job.id, *repeated_options)
    return (
        f"{outcome}; {format_count(job.total_steps, 'step')}, {format_usage(view.usage)}, "
        f"job {job.id}; {action}: {shlex.join(command)}"
    )


def _format_question(question: Question) -> str:
    name = question.tool_name
    message = shorten(question.message.removeprefix(f"{name}: "), 200)
    expected = shorten(answer_format(question.schema), 400)
    return f"{name}: {message}{f' {expected}' if expected else ''}"
