"""The record of one segment as it is played: what comes next for each run, and what came instead.

Everything that a run gets from the outside waits here until the record has it. Where the record
ends, because the process died there or the job was cancelled, it waits until the tape is over.
"""

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import anyio

from perstack.analysis.diff import Difference, event_differences
from perstack.core import events as ev
from perstack.core.activations import ActivationSegment, is_idle
from perstack.core.messages import ToolResult, replace_text
from perstack.runtime.ports import Lease

E = TypeVar("E")
CURRENT_RUN_ID: ContextVar[str] = ContextVar("present_run")
"""The run in whose task something happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where a replay first goes another way than the record.

    Attributes:
        run_id: The run.
        recorded: What the record has; `None` if it has nothing more.
        replayed: What came instead; `None` if nothing did.
        differences: The values that are not the same, if there are two events to compare.
        remark: What happened, where it was no event.
    """

    run_id: str
    recorded: ev.RunEvent | None
    replayed: ev.RunEvent | None = None
    differences: tuple[Difference, ...] = ()
    remark: str = ""


class Recording:
    """Plays one segment. Satisfies what a journal needs of a store, and keeps nothing.

    Attributes:
        divergence: The first one; the tape is over then.
        matched: How many events came as recorded.
        scope: Ends the work on the segment.
    """

    def __init__(self, segment: ActivationSegment) -> None:
        self.segment = segment
        self.divergence: Divergence | None = None
        self.matched = 0
        self.scope = anyio.CancelScope()
        self._is_over = False
        self._progress = anyio.Event()
        self._positions: dict[str, int] = {}
        self._runs: dict[str, list[ev.RunEvent]] = {}
        for event in segment.events:
            self._runs.setdefault(event.stamp.run_id, []).append(event)
        self._parents = segment.parents
        self._child_runs = {call: run_id for run_id, call in self._parents.items()}
        self._delivered_early: set[str] = set()

    @property
    def is_complete(self) -> bool:
        """Whether all that was recorded has come."""
        return self.matched == len(self.segment.events)

    def has_run(self, run_id: str) -> bool:
        """Whether the run did anything in this segment."""
        return run_id in self._runs

    def first_event(self, run_id: str) -> ev.RunEvent:
        """The first event of a run in this segment."""
        return self._runs[run_id][0]

    def peek(self, run_id: str, ahead: int = 0) -> ev.RunEvent | None:
        """The event of a run that comes next, or some later; `None` if its record has ended."""
        events = self._runs.get(run_id, [])
        index = self._positions.get(run_id, 0) + ahead
        return events[index] if index < len(events) else None

    def remaining(self, run_id: str) -> Iterator[ev.RunEvent]:
        """The events of a run that have not come yet."""
        events = self._runs.get(run_id, [])
        return (events[index] for index in range(self._positions.get(run_id, 0), len(events)))

    def next_of_type(self, run_id: str, *event_types: type[E]) -> E | None:
        """The next event of one of these kinds."""
        return next(
            (event for event in self.remaining(run_id) if isinstance(event, event_types)), None
        )

    def recorded_result(self, run_id: str, call_id: str) -> ToolResult | None:
        """The result of a call that is still to come."""
        event = self._find_result(run_id, call_id)
        return event.whole_result if event else None

    async def wait_for_result(self, run_id: str, call_id: str) -> ToolResult:
        """The result of a call, as soon as it is the next that comes; at the end if none does."""
        result_event = self._find_result(run_id, call_id)
        if result_event is None:
            return await self.wait_for_end()
        if result_event.id in self.segment.results_before_cancel:
            self._delivered_early.add(result_event.id)
            self._advance()
            # It must be there before the run hears that it is cancelled, and not be lost with it.
            with anyio.CancelScope(shield=True):
                await self._wait_until(lambda: self.scope.cancel_called)
        else:
            await self._wait_until(lambda: self.peek(run_id) is result_event)
        return result_event.whole_result

    def _find_result(self, run_id: str, call_id: str) -> ev.RecordToolResult | None:
        for event in self.remaining(run_id):
            if isinstance(event, ev.RecordToolResult) and event.tool_result.id == call_id:
                return event
        return None

    def stop_reason(self) -> str:
        """Why the present run was cancelled."""
        event = self.next_of_type(CURRENT_RUN_ID.get(), ev.StopRunByCancellation)
        return event.reason if event else ""

    def parent_of(self, run_id: str) -> tuple[str, str] | None:
        """The run that delegated to this one, and the id of its call."""
        return self._parents.get(run_id)

    def child_of(self, run_id: str, call_id: str) -> str | None:
        """The run that answers a delegate call of this one."""
        return self._child_runs.get((run_id, call_id))

    async def append(self, events: Sequence[ev.RunEvent], lease: Lease) -> None:
        """Compare what was decided with the record."""
        del lease
        for event in events:
            self._compare(event)
        self._advance()
        last = events[-1].stamp.run_id
        if not self._is_over and self.peek(last) is None:
            await self._wait_for_turn(last)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._progress.wait()

    async def wait_for_end(self) -> NoReturn:
        """Wait for the end of the segment: this run has no more to do in it."""
        await anyio.sleep_forever()
        raise AssertionError

    async def diverge(self, run_id: str, remark: str) -> NoReturn:
        """Give up: the run wants something that the record does not have."""
        self._set_divergence(Divergence(run_id=run_id, recorded=self.peek(run_id), remark=remark))
        await anyio.sleep_forever()
        raise AssertionError

    def end(self) -> None:
        """Stop all that still waits; what is decided from now on counts for nothing."""
        self._is_over = True
        self._notify_progress()
        self.scope.cancel()

    def close(self) -> None:
        """Note what is missing once the work has ended by itself."""
        if not self._is_over and not self.is_complete:
            self._diverge_at_missing_event("the job stops")

    def stall(self) -> None:
        """Note what is missing once nothing moves any more."""
        self._diverge_at_missing_event("nothing more happens")

    def _diverge_at_missing_event(self, remark: str) -> None:
        run_id = next(run_id for run_id in self._runs if self.peek(run_id) is not None)
        self._set_divergence(Divergence(run_id=run_id, recorded=self.peek(run_id), remark=remark))

    def _compare(self, event: ev.RunEvent) -> None:
        if self._is_over:
            return
        run_id = event.stamp.run_id
        recorded = self.peek(run_id)
        if recorded is None:
            if self._is_cut_off(run_id):
                return
            self._set_divergence(Divergence(run_id=run_id, recorded=None, replayed=event))
            return
        replayed = _without_unrecorded_fields(event, recorded)
        differences = event_differences(*_with_whole_results(recorded, replayed))
        if differences and self._is_external_cancellation(recorded):
            self.matched += 1
            self.end()
            return
        if differences:
            self._set_divergence(
                Divergence(
                    run_id=run_id, recorded=recorded, replayed=event, differences=differences
                )
            )
            return
        self._positions[run_id] = self._positions.get(run_id, 0) + 1
        self.matched += 1

    def _is_cut_off(self, run_id: str) -> bool:
        """Whether the record of a run ends in the middle of its work, or before it began."""
        if not self.segment.has_ended or not is_idle(self.segment.after.get(run_id)):
            return True
        parent = self.parent_of(run_id)
        is_unanswered = parent is not None and self._find_result(*parent) is None
        return is_unanswered and not self.has_run(run_id)

    def _is_external_cancellation(self, recorded: ev.RunEvent) -> bool:
        """Whether the job was cancelled after its process had crashed."""
        is_cancellation = isinstance(recorded, ev.StopRunByCancellation)
        return is_cancellation and recorded is self.segment.events[-1]

    def _set_divergence(self, divergence: Divergence) -> None:
        if self.divergence is None and not self._is_over:
            self.divergence = divergence
            self.end()

    async def _wait_for_turn(self, run_id: str) -> None:
        """Let a delegate answer in the order in which its parent recorded the answers."""
        parent = self._parents.get(run_id)
        if parent is None or not is_idle(self.segment.after.get(run_id)):
            return
        parent_id, call_id = parent

        def is_turn() -> bool:
            event = self.peek(parent_id)
            is_next = isinstance(event, ev.RecordToolResult) and event.tool_result.id == call_id
            is_unanswered = self._find_result(parent_id, call_id) is None
            return is_next or is_unanswered or self.scope.cancel_called

        await self._wait_until(is_turn)

    def _advance(self) -> None:
        unfinished = [run_id for run_id in self._runs if self.peek(run_id) is not None]
        self._notify_progress()
        if unfinished and all(map(self._is_waiting_for_cancellation, unfinished)):
            self.scope.cancel()
        elif not unfinished and not self.segment.has_ended:
            self.end()

    def _is_waiting_for_cancellation(self, run_id: str) -> bool:
        event = self.peek(run_id)
        is_delivered_early = event is not None and event.id in self._delivered_early
        waited_for = self.peek(run_id, int(is_delivered_early))
        return waited_for is not None and ev.is_cancellation(waited_for)

    async def wait_for_timeout(self, run_id: str) -> None:
        """Wait until a run and its delegates have nothing left to do but to run out of time."""

        def is_due() -> bool:
            event = self.peek(run_id)
            if not isinstance(event, ev.StopRunByExceededBudget) or event.budget_run_id != run_id:
                return False
            unfinished = [each for each in self._runs if self.peek(each) is not None]
            below = [each for each in unfinished if self._is_below(each, run_id)]
            return all(map(self._is_waiting_for_cancellation, below))

        await self._wait_until(is_due)

    def _is_below(self, run_id: str, ancestor: str) -> bool:
        while run_id != ancestor:
            parent = self._parents.get(run_id)
            if parent is None:
                return False
            run_id = parent[0]
        return True

    def _notify_progress(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()


def _with_whole_results(
    recorded: ev.RunEvent, replayed: ev.RunEvent
) -> tuple[ev.RunEvent, ev.RunEvent]:
    """The events with all that a tool returned, if one of them has it shortened.

    The limit may have been another when the job was done, or there may have been none.
    """
    if not isinstance(recorded, ev.RecordToolResult) or not isinstance(
        replayed, ev.RecordToolResult
    ):
        return recorded, replayed
    if recorded.whole_text is None and replayed.whole_text is None:
        return recorded, replayed
    return _with_whole_result(recorded), _with_whole_result(replayed)


def _with_whole_result(event: ev.RecordToolResult) -> ev.RecordToolResult:
    whole = replace_text(event.whole_result, event.whole_result.text)
    return event.model_copy(update={"tool_result": whole, "whole_text": None})


def _without_unrecorded_fields(replayed: ev.RunEvent, recorded: ev.RunEvent) -> ev.RunEvent:
    """The replayed event without the optional fields that an older version did not record."""
    if type(replayed) is not type(recorded):
        return replayed
    unrecorded = (
        name
        for name in ("finish_reason", "max_retries")
        if name in type(recorded).model_fields and getattr(recorded, name) is None
    )
    return replayed.model_copy(update=dict.fromkeys(unrecorded))
