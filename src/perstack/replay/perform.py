"""Doing a stored job again: the runtime itself decides, everything around it is the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import InstructionMessage, ToolResult
from perstack.core.redaction import Redactor
from perstack.core.tools import ToolDefinition
from perstack.core.trail import Trail
from perstack.definition.model import Definitions
from perstack.errors import UnknownExpertError
from perstack.replay.replies import retries_allowed
from perstack.replay.segments import Segment, is_at_rest, segments
from perstack.replay.stand_ins import (
    RecordedClock,
    RecordedModel,
    RecordedSkills,
    RecordedSteps,
    RunIds,
    RunMarkers,
)
from perstack.replay.tape import Divergence, Tape
from perstack.replay.tools import tools_in
from perstack.runtime.execute import begin, resume
from perstack.runtime.job import JobContext
from perstack.runtime.ports import Lease
from perstack.runtime.prompt import Place, instruction_message
from perstack.runtime.run import Opening

STALLED_SECONDS = 10.0
"""A replay waits for nothing, so one that does not move for so long will not move any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
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


async def replay(events: Sequence[ev.RunEvent], definitions: Definitions) -> Replay:
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
    trail = Trail(events).steps
    tools = tools_in(trail, definitions)
    checkpoints = {checkpoint.id: checkpoint for _, checkpoint in trail}
    matched = 0
    divergence: Divergence | None = None
    for segment in segments(trail):
        stage = _Stage(segment, definitions, tools, checkpoints)
        matched += await stage.perform()
        divergence = stage.tape.divergence
        if divergence is not None:
            break
    runs = {event.stamp.run_id for event in events}
    return Replay(events=len(events), matched=matched, runs=len(runs), divergence=divergence)


class _Stage:
    """One segment and what is needed to do it again."""

    def __init__(
        self,
        segment: Segment,
        definitions: Definitions,
        tools: Mapping[str, tuple[ToolDefinition, ...]],
        checkpoints: Mapping[str, Checkpoint],
    ) -> None:
        self.tape = Tape(segment)
        self._segment = segment
        self._definitions = definitions
        self._tools = tools
        self._checkpoints = checkpoints

    async def perform(self) -> int:
        """Do the work of the segment again; returns how many events came as recorded."""
        if self._segment.is_from_outside:
            return len(self._segment.events)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            with self.tape.scope:
                await self._work()
            tasks.cancel_scope.cancel()
        self.tape.close()
        return self.tape.matched

    async def _watch(self) -> None:
        matched = -1
        while matched != self.tape.matched:
            matched = self.tape.matched
            await anyio.sleep(STALLED_SECONDS)
        self.tape.stall()

    async def _work(self) -> None:
        context = self._context()
        segment = self._segment
        root_id = segment.root_run_id
        known = segment.before.get(root_id)
        first = segment.events[0]
        expert = self._definitions.experts[known.expert.key if known else first.stamp.expert_key]
        if known is not None:
            await resume(context, expert, known, self._answer(known))
            return
        opening, base = self._opening(context, first)
        await begin(
            context,
            expert,
            opening,
            base,
            run_id=root_id,
            first_step=first.stamp.step_number,
        )

    def _answer(self, known: Checkpoint) -> ToolResult | None:
        first = self._segment.events[0]
        if isinstance(first, ev.RecordToolResult) and is_at_rest(known):
            return first.tool_result
        return None

    def _opening(
        self, context: JobContext, first: ev.RunEvent
    ) -> tuple[Opening, Checkpoint | None]:
        if isinstance(first, ev.StartRun):
            expert = self._definitions.experts[first.stamp.expert_key]
            messages = tuple(
                instruction_message(expert, context.place, context.clock.now_ms())
                if isinstance(message, InstructionMessage)
                else message
                for message in first.input_messages
            )
            opening = Opening(
                messages=messages,
                continued_from=first.continued_from,
                is_fork=first.continued_from is not None,
                instruction=first.new_instruction,
            )
            return opening, self._checkpoints.get(first.continued_from or "")
        base_id = first.continued_from if isinstance(first, ev.ResumeFromStop) else None
        base = self._checkpoints.get(base_id or "")
        second = self._segment.events[1] if len(self._segment.events) > 1 else None
        answer = None
        if isinstance(second, ev.RecordToolResult) and base is not None:
            asked = {call.id for call in base.pending("interactive")}
            answer = second.tool_result if second.tool_result.id in asked else None
        return Opening(continued_from=base_id, answer=answer), base

    def _context(self) -> JobContext:
        segment, tape = self._segment, self.tape
        stamp = segment.events[0].stamp
        allowed = [retries_allowed(event) for event in segment.events]
        root = segment.before.get(segment.root_run_id)
        return JobContext(
            job_id=stamp.job_id,
            definitions=self._definitions,
            definition_hash=None,
            model=RecordedModel(tape),
            skills=RecordedSkills(tape, self._tools),
            store=tape,
            lease=Lease(stamp.job_id, "replay", 1),
            telemetry=RunMarkers(tape),
            clock=RecordedClock(tape, stamp.timestamp),
            new_id=RunIds(tape),
            jitter=lambda: 0.0,
            stop_reason=tape.stop_reason,
            listener=lambda _event, _checkpoint: None,
            redactor=Redactor(),
            steps=RecordedSteps(tape, root.step_limit if root else stamp.step_number),
            place=Place(Path()),
            max_retries=next(
                (number for number in allowed if number is not None), self._most_retries()
            ),
            known=dict(segment.before),
        )

    def _most_retries(self) -> int:
        """Enough for what the record has, and for what the definitions allow."""
        made = max(self._checkpoints[event.id].retry_count for event in self._segment.events)
        return max(made, self._definitions.max_retries)
