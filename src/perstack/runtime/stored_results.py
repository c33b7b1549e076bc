"""`readToolResult`: what was left out of a shortened result, read from the store."""

import time
from collections.abc import Iterator
from typing import Protocol

from anyio import to_thread
from pydantic import Field, ValidationError

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RecordToolResult
from perstack.core.long_results import NOTE_CHARACTERS, READ_TOOL_RESULT, is_shortened, line_end
from perstack.core.messages import (
    TextPart,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolResultPart,
    text_result,
)
from perstack.core.tools import describe_validation_error
from perstack.definition.model import Definitions, Expert, McpStdioSkill
from perstack.definition.references import BASE_SKILL
from perstack.errors import StoreError
from perstack.models import FrozenModel
from perstack.text_search import SearchPattern, SearchTimeoutError

MAX_PLACES = 100
"""Of one search."""

MAX_SEARCH_SECONDS = 5.0


class ReadToolResultInput(FrozenModel):
    """Arguments of `readToolResult`; offset and limit are in characters."""

    tool_call_id: str
    offset: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    pattern: str | None = Field(default=None, min_length=1)
    ignore_case: bool = False


class WholeResults(Protocol):
    """The part of a `Store` that has the whole texts of shortened results."""

    async def shortened_results(
        self, job_id: str, tool_call_id: str
    ) -> tuple[RecordToolResult, ...]:
        """The shortened results of calls with this id, with their whole texts.

        Ids are unique within a conversation only, so a job may have several.

        Raises:
            StoreError: The store cannot be read.
        """
        ...


class ResultReader(Protocol):
    """Answers `readToolResult` calls."""

    async def answer(self, call: ToolCall, checkpoint: Checkpoint) -> ToolResult:
        """Answer one call of a run that stands at `checkpoint`.

        Contract: never raises but for cancellation; every failure is an error result.
        """
        ...


class StoredResultReader:
    """Satisfies the `ResultReader` port.

    Args:
        store: Has the whole texts; none is kept in memory.
        max_characters: More than that would be shortened again.
    """

    def __init__(self, store: WholeResults, max_characters: int) -> None:
        self._store = store
        self._max_characters = max_characters

    async def answer(self, call: ToolCall, checkpoint: Checkpoint) -> ToolResult:
        try:
            args = ReadToolResultInput.model_validate(call.args)
            text = await self._whole_text(checkpoint, args.tool_call_id)
            if text is None:
                return text_result(call, _unknown_id(checkpoint, args.tool_call_id), is_error=True)
            answer = await to_thread.run_sync(self._answer, args, text, abandon_on_cancel=True)
            return text_result(call, answer)
        except ValidationError as error:
            return text_result(call, describe_validation_error(error), is_error=True)
        except StoreError as error:
            return text_result(call, f"The result cannot be read: {error}", is_error=True)
        except ValueError as error:
            return text_result(call, f"`pattern` {error}", is_error=True)

    async def _whole_text(self, checkpoint: Checkpoint, tool_call_id: str) -> str | None:
        # Another run of the job may have a call with this id, but not with the same result; a
        # branch has results of the run that it left.
        told = [part.contents for part in _results(checkpoint) if part.tool_call_id == tool_call_id]
        stored = await self._store.shortened_results(checkpoint.job_id, tool_call_id)
        for event in reversed(stored):
            is_own = event.stamp.run_id == checkpoint.run_id
            if is_own or event.tool_result.result in told:
                return event.whole_text
        return None

    def _answer(self, args: ReadToolResultInput, text: str) -> str:
        room = self._max_characters - NOTE_CHARACTERS
        room = min(args.limit or room, room)
        start = min(args.offset, len(text))
        if args.pattern is None:
            return _read(text, start, room)
        return _search(
            text, SearchPattern(args.pattern, ignores_case=args.ignore_case), start, room
        )


def _read(text: str, start: int, room: int) -> str:
    end = min(start + room, len(text))
    if end < len(text):
        end = line_end(text, start, end)
    rest = f"go on with offset {end}" if end < len(text) else "this is the end"
    return f"[Characters {start} to {end} of {len(text)}; {rest}]\n{text[start:end]}"


def _search(text: str, pattern: SearchPattern, start: int, room: int) -> str:
    lines: list[str] = []
    rest = "there are no others"
    deadline = time.monotonic() + MAX_SEARCH_SECONDS
    try:
        for match in pattern.search(text, start, deadline=deadline):
            line = f"offset {match.offset}, line {match.line + 1}: {match.excerpt}"
            room -= len(line) + 1
            if lines and (room < 0 or len(lines) == MAX_PLACES):
                rest = f"go on with offset {match.offset}"
                break
            lines.append(line)
    except SearchTimeoutError as stop:
        rest = f"the time was up; go on with offset {stop.offset}"
    return "\n".join([f"[{len(lines)} found from offset {start} of {len(text)}; {rest}]", *lines])


def can_read_results(expert: Expert, definitions: Definitions) -> bool:
    """Whether an expert has the tool `readToolResult`."""
    skill = expert.skills.get(BASE_SKILL)
    if definitions.perstack_base_skill_command is not None or not isinstance(skill, McpStdioSkill):
        return False
    return skill.is_built_in and READ_TOOL_RESULT in expert.base_tools


def _unknown_id(checkpoint: Checkpoint, tool_call_id: str) -> str:
    known = [
        f"{part.tool_call_id} ({part.tool_name})"
        for part in _results(checkpoint)
        if any(isinstance(each, TextPart) and is_shortened(each.text) for each in part.contents)
    ]
    listing = f"These were: {', '.join(known)}." if known else "None was so far."
    return f"No result with the id {tool_call_id!r} was shortened. {listing}"


def _results(checkpoint: Checkpoint) -> Iterator[ToolResultPart]:
    """The results in a conversation."""
    for message in checkpoint.messages:
        if isinstance(message, ToolMessage):
            yield from message.contents
