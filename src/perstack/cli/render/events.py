"""What an event says to a person, in one line or a few."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from perstack.cli.formatting import format_usage, local_time, shorten
from perstack.core import events as ev
from perstack.core.history import RecordedEvent
from perstack.core.messages import TextPart, ToolResult, Usage, UserMessage
from perstack.core.verification import format_verification_results

MAX_QUERY_CHARACTERS = 60
MAX_RESULT_CHARACTERS = 40
MAX_ANSWER_CHARACTERS = 80


def event_lines(entry: RecordedEvent, *, is_verbose: bool = False) -> Iterator[str]:
    """The event in one line, and its content in further ones: shortened unless `is_verbose`."""
    stamp = entry.event.stamp
    time_of_day = local_time(stamp.timestamp).strftime("%H:%M:%S")
    head = f"[Step {stamp.step_number}] {entry.event.type}  {time_of_day}  {stamp.expert_key}"
    yield f"{head}  {entry.event.id}" if is_verbose else head
    for text in _detail_texts(entry, _Formatter(is_verbose)):
        yield from (f"  {line}" for line in text.splitlines())


@dataclass(frozen=True, slots=True)
class _Formatter:
    """Shortens what it formats to parts of a line, unless it is verbose."""

    is_verbose: bool

    def text(self, text: str, length: int) -> str:
        return text if self.is_verbose else shorten(text, length)

    def call(self, skill: str, tool: str, args: dict[str, Any]) -> str:
        if self.is_verbose:
            return f"{skill} {tool} {json.dumps(args, ensure_ascii=False)}"
        arguments = ", ".join(f"{name}={value!r}" for name, value in args.items())
        return f"{tool}({shorten(arguments, MAX_QUERY_CHARACTERS)})"

    def usage(self, usage: Usage) -> Iterator[str]:
        if self.is_verbose and usage.total_tokens:
            yield format_usage(usage)


def _detail_texts(entry: RecordedEvent, formatter: _Formatter) -> Iterator[str]:  # noqa: C901, PLR0912, PLR0915 - one flat case per event reads best
    match entry.event:
        case ev.StartRun() as event:
            yield from (
                f"query: {formatter.text(text, MAX_QUERY_CHARACTERS)}"
                for text in _user_texts(event)
            )
        case ev.CallTools() as event:
            skills = {target.tool_call_id: target.skill_name for target in event.targets}
            if event.new_message.text:
                yield formatter.text(event.new_message.text, MAX_ANSWER_CHARACTERS)
            for call in event.new_message.tool_calls:
                yield formatter.call(skills.get(call.tool_call_id, "?"), call.tool_name, call.args)
            yield from formatter.usage(event.usage)
        case ev.RecordToolResult() as event:
            yield _result_text(event.whole_result, formatter)
        case ev.AttemptCompletion() as event:
            yield _result_text(event.tool_result, formatter)
        case ev.CompactHistory() as event:
            yield f"↧ {formatter.text(event.summary, MAX_ANSWER_CHARACTERS)}"
            yield from formatter.usage(event.usage)
        case ev.StartVerification() as event:
            if event.new_message is not None:
                yield formatter.text(event.new_message.text, MAX_ANSWER_CHARACTERS)
            yield from formatter.usage(event.usage)
        case ev.RecordVerification() as event:
            yield formatter.text(
                format_verification_results((event.verification,)), MAX_ANSWER_CHARACTERS
            )
        case ev.ResolveToolResults():
            yield from (_result_text(result, formatter) for result in entry.checkpoint.tool_results)
        case ev.CallDelegate() as event:
            for delegation in event.delegate_to:
                query = formatter.text(delegation.query, MAX_QUERY_CHARACTERS)
                yield f"⎇ {delegation.expert.key}: {query}"
        case ev.CallInteractiveTool() as event:
            for call in entry.checkpoint.tool_calls:
                if call.id == event.tool_call_id:
                    yield f"? {formatter.call(call.skill_name, call.tool_name, call.args)}"
        case ev.Retry() as event:
            yield f"✗ {formatter.text(event.reason, MAX_ANSWER_CHARACTERS)}"
            if event.fallback is not None:
                yield f"↷ {event.fallback.model} of {event.fallback.provider} stands in"
            yield from formatter.usage(event.usage)
        case ev.StopRunByError() as event:
            error = event.error
            yield f"✗ {error.name}: {formatter.text(error.message, MAX_ANSWER_CHARACTERS)}"
        case ev.StopRunByExceededBudget() as event:
            yield f"✗ {formatter.text(event.message, MAX_ANSWER_CHARACTERS)}"
        case ev.StopRunByCancellation() as event:
            yield f"✗ {formatter.text(event.reason, MAX_ANSWER_CHARACTERS)}"
        case ev.CompleteRun() as event:
            yield f"✓ {formatter.text(event.text, MAX_ANSWER_CHARACTERS)}"
            yield from formatter.usage(event.usage)
        case _:
            return


def _user_texts(event: ev.StartRun) -> Iterator[str]:
    for message in event.input_messages:
        if isinstance(message, UserMessage):
            yield " ".join(part.text for part in message.contents if isinstance(part, TextPart))


def _result_text(result: ToolResult, formatter: _Formatter) -> str:
    mark = "✗" if result.is_error else "✓"
    return f"{mark} {result.tool_name}: {formatter.text(result.text, MAX_RESULT_CHARACTERS)}"
