"""Doing a stored job again: the runtime itself decides, everything around it is the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from perstack.core import events as ev
from perstack.core.activations import ActivationSegment, is_idle, split_into_segments
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import JobHistory
from perstack.core.messages import InstructionMessage, ToolResult
from perstack.definition.model import Definitions
from perstack.errors import UnknownExpertError
from perstack.redaction import Redactor
from perstack.replay.recorded_ports import (
    CurrentRunTelemetry,
    RecordedBudget,
    RecordedClock,
    RecordedModel,
    RecordedResultReader,
    RecordedRunIds,
    RecordedSkills,
    RecordedStepCounter,
)
from perstack.replay.recorded_responses import recorded_retry_limit
from perstack.replay.recorded_tools import GenerationTools, tools_by_run
from perstack.replay.recording import Divergence, Recording
from perstack.runtime.context import JobContext
from perstack.runtime.ports import Lease
from perstack.runtime.prompt import WorkspaceInfo, instruction_message
from perstack.runtime.repetition import REFUSED_REPETITION
from perstack.runtime.run import RunStart
from perstack.runtime.runner import resume_run, start_run

STALL_TIMEOUT_SECONDS = 10.0
"""A replay waits for nothing, so without progress for this time it is stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What came of doing a job again.

    Attributes:
        events: How many the record has.
        matched: How many came again as recorded.
        runs: How many runs they belong to.
        divergence: Where it first went another way, if it did.
    """

    events: int
    matched: int
    runs: int
    divergence: Divergence | None

    @property
    def is_identical(self) -> bool:
        """Whether every event came again."""
        return self.divergence is None


async def replay(events: Sequence[ev.RunEvent], definitions: Definitions) -> ReplayResult:
    """Do a job again from its events, in the order in which they were written.

    Args:
        events: All that was stored of it.
        definitions: Of the experts; if they are not those of then, the replay shows it.

    Raises:
        UnknownExpertError: The expert of the job is not among them.
    """
    expert_key = events[0].stamp.expert_key
    if expert_key not in definitions.experts:
        raise UnknownExpertError(
            f"Expert {expert_key!r} of the job is not defined.",
            hint="Give the definition file that the job was run with by --config.",
        )
    definitions = _with_recorded_limits(definitions, events)
    history = JobHistory(events).recorded_events
    tools = tools_by_run(history, definitions)
    checkpoints = {checkpoint.id: checkpoint for _, checkpoint in history}
    matched = 0
    divergence: Divergence | None = None
    for segment in split_into_segments(history):
        segment_replay = _SegmentReplay(segment, definitions, tools, checkpoints)
        matched += await segment_replay.run()
        divergence = segment_replay.recording.divergence
        if divergence is not None:
            break
    runs = {event.stamp.run_id for event in events}
    return ReplayResult(events=len(events), matched=matched, runs=len(runs), divergence=divergence)


def _with_recorded_limits(definitions: Definitions, events: Sequence[ev.RunEvent]) -> Definitions:
    """Definitions that allow repeated calls where the record allowed them: older versions did."""
    results = (event.tool_result for event in events if isinstance(event, ev.RecordToolResult))
    if any(result.text.startswith(REFUSED_REPETITION) for result in results):
        return definitions
    budget = definitions.budget.model_copy(update={"max_repeated_calls": 0})
    return definitions.model_copy(update={"budget": budget})


class _SegmentReplay:
    """One segment and what is needed to do it again."""

    def __init__(
        self,
        segment: ActivationSegment,
        definitions: Definitions,
        tools: Mapping[str, Sequence[GenerationTools]],
        checkpoints: Mapping[str, Checkpoint],
    ) -> None:
        self.recording = Recording(segment)
        self._segment = segment
        self._definitions = definitions
        self._tools = tools
        self._checkpoints = checkpoints

    async def run(self) -> int:
        """Do the work of the segment again; returns how many events came as recorded."""
        if self._segment.is_external_cancellation:
            return len(self._segment.events)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._detect_stall)
            with self.recording.scope:
                await self._run_segment()
            tasks.cancel_scope.cancel()
        self.recording.close()
        return self.recording.matched

    async def _detect_stall(self) -> None:
        matched = -1
        while matched != self.recording.matched:
            matched = self.recording.matched
            await anyio.sleep(STALL_TIMEOUT_SECONDS)
        self.recording.stall()

    async def _run_segment(self) -> None:
        context = self._build_context()
        segment = self._segment
        root_id = segment.root_run_id
        checkpoint = segment.before.get(root_id)
        first = segment.events[0]
        expert = self._definitions.experts[
            checkpoint.expert.key if checkpoint else first.stamp.expert_key
        ]
        if checkpoint is not None:
            await resume_run(context, expert, checkpoint, self._recorded_answer(checkpoint))
            return
        start, base = self._run_start(context, first)
        await start_run(
            context,
            expert,
            start,
            base,
            run_id=root_id,
            first_step=first.stamp.step_number,
        )

    def _recorded_answer(self, checkpoint: Checkpoint) -> ToolResult | None:
        first = self._segment.events[0]
        if isinstance(first, ev.RecordToolResult) and is_idle(checkpoint):
            return first.whole_result
        return None

    def _run_start(
        self, context: JobContext, first: ev.RunEvent
    ) -> tuple[RunStart, Checkpoint | None]:
        if isinstance(first, ev.StartRun):
            expert = self._definitions.experts[first.stamp.expert_key]
            messages = tuple(
                instruction_message(expert, context.workspace, context.clock.now_ms())
                if isinstance(message, InstructionMessage)
                else message
                for message in first.input_messages
            )
            start = RunStart(
                messages=messages,
                continued_from=first.continued_from,
                is_fork=first.continued_from is not None,
                instruction=first.new_instruction,
            )
            return start, self._checkpoints.get(first.continued_from or "")
        base_id = first.continued_from if isinstance(first, ev.ResumeFromStop) else None
        base = self._checkpoints.get(base_id or "")
        second = self._segment.events[1] if len(self._segment.events) > 1 else None
        answer = None
        if isinstance(second, ev.RecordToolResult) and base is not None:
            interactive_call_ids = {call.id for call in base.pending("interactive")}
            answer = second.whole_result if second.tool_result.id in interactive_call_ids else None
        return RunStart(continued_from=base_id, answer=answer), base

    def _build_context(self) -> JobContext:
        segment, recording = self._segment, self.recording
        stamp = segment.events[0].stamp
        retry_limits = [recorded_retry_limit(event) for event in segment.events]
        root = segment.before.get(segment.root_run_id)
        return JobContext(
            job_id=stamp.job_id,
            definitions=self._definitions,
            definition_hash=None,
            model=RecordedModel(recording),
            skills=RecordedSkills(recording, self._tools),
            store=recording,
            lease=Lease(stamp.job_id, "replay", 1),
            telemetry=CurrentRunTelemetry(recording),
            clock=RecordedClock(recording, stamp.timestamp),
            new_id=RecordedRunIds(recording),
            jitter=lambda: 0.0,
            stop_reason=recording.stop_reason,
            listener=lambda _event, _checkpoint: None,
            redactor=Redactor(),
            result_reader=RecordedResultReader(recording),
            budget=RecordedBudget(recording),
            steps=RecordedStepCounter(recording, root.step_limit if root else stamp.step_number),
            workspace=WorkspaceInfo(Path()),
            max_retries=next(
                (number for number in retry_limits if number is not None), self._max_retries()
            ),
            known_checkpoints=dict(segment.before),
        )

    def _max_retries(self) -> int:
        """Enough for what the record has, and for what the definitions allow."""
        most_retries = max(
            self._checkpoints[event.id].retry_count for event in self._segment.events
        )
        return max(most_retries, self._definitions.max_retries)
