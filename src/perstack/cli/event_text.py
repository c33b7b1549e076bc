"""What an event says to a person, in one line or a few."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from perstack.cli.history import Entry
from perstack.cli.summary import short, tokens
from perstack.core import events as ev
from perstack.core.messages import TextPart, ToolResult, Usage, UserMessage
from perstack.core.verification import in_brief

QUERY_CHARACTERS = 60
RESULT_CHARACTERS = 40
ANSWER_CHARACTERS = 80


def event_lines(entry: Entry, *, is_verbose: bool = False) -> Iterator[str]:
    """What happened, and what was said: a preview of it, or all of it.

    The first line is the event itself.
    """
    stamp = entry.event.stamp
    head = (
        f"[Step {stamp.step_number}] {entry.event.type}  {clock(stamp.timestamp)}"
        f"  {stamp.expert_key}"
    )
    yield f"{head}  {entry.event.id}" if is_verbose else head
    words = _Whole() if is_verbose else _Preview()
    for text in _details(entry, words):
        yield from (f"  {line}" for line in text.splitlines())


def clock(at_ms: int) -> str:
    """The time of day of a moment, local."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S")


class _Preview:
    """Words that fit on a line."""

    def text(self, text: str, length: int) -> str:
        """A text."""
        return short(text, length)

    def call(self, skill: str, tool: str, args: dict[str, Any]) -> str:
        """A call of a tool."""
        del skill
        said = ", ".join(f"{name}={value!r}" for name, value in args.items())
        return f"{tool}({short(said, QUERY_CHARACTERS)})"

    def usage(self, usage: Usage) -> Iterator[str]:
        """What a generation took."""
        del usage
        yield from ()


class _Whole(_Preview):
    """All there is."""

    def text(self, text: str, length: int) -> str:
        del length
        return text

    def call(self, skill: str, tool: str, args: dict[str, Any]) -> str:
        return f"{skill} {tool} {json.dumps(args, ensure_ascii=False)}"

    def usage(self, usage: Usage) -> Iterator[str]:
        if usage.total_tokens:
            yield tokens(usage)


def _details(entry: Entry, words: _Preview) -> Iterator[str]:  # noqa: C901, PLR0912 - one flat case per event reads best
    match entry.event:
        case ev.StartRun() as event:
            yield from (f"query: {words.text(text, QUERY_CHARACTERS)}" for text in _spoken(event))
        case ev.CallTools() as event:
            skills = {target.tool_call_id: target.skill_name for target in event.targets}
            if event.new_message.text:
                yield words.text(event.new_message.text, ANSWER_CHARACTERS)
            for call in event.new_message.tool_calls:
                yield words.call(skills.get(call.tool_call_id, "?"), call.tool_name, call.args)
            yield from words.usage(event.usage)
        case ev.RecordToolResult() | ev.AttemptCompletion() as event:
            yield _result(event.tool_result, words)
        case ev.StartVerification() as event:
            if event.new_message is not None:
                yield words.text(event.new_message.text, ANSWER_CHARACTERS)
            yield from words.usage(event.usage)
        case ev.RecordVerification() as event:
            yield words.text(in_brief((event.verification,)), ANSWER_CHARACTERS)
        case ev.ResolveToolResults():
            yield from (_result(result, words) for result in entry.checkpoint.tool_results)
        case ev.CallDelegate() as event:
            for delegation in event.delegate_to:
                query = words.text(delegation.query, QUERY_CHARACTERS)
                yield f"⎇ {delegation.expert.key}: {query}"
        case ev.CallInteractiveTool() as event:
            for call in entry.checkpoint.tool_calls:
                if call.id == event.tool_call_id:
                    yield f"? {words.call(call.skill_name, call.tool_name, call.args)}"
        case ev.Retry() as event:
            yield f"✗ {words.text(event.reason, ANSWER_CHARACTERS)}"
            yield from words.usage(event.usage)
        case ev.StopRunByError() as event:
            error = event.error
            yield f"✗ {error.name}: {words.text(error.message, ANSWER_CHARACTERS)}"
        case ev.StopRunByCancellation() as event:
            yield f"✗ {words.text(event.reason, ANSWER_CHARACTERS)}"
        case ev.CompleteRun() as event:
            yield f"✓ {words.text(event.text, ANSWER_CHARACTERS)}"
            yield from words.usage(event.usage)
        case _:
            return


def _spoken(event: ev.StartRun) -> Iterator[str]:
    for message in event.input_messages:
        if isinstance(message, UserMessage):
            yield " ".join(part.text for part in message.contents if isinstance(part, TextPart))


def _result(result: ToolResult, words: _Preview) -> str:
    mark = "✗" if result.is_error else "✓"
    return f"{mark} {result.tool_name}: {words.text(result.text, RESULT_CHARACTERS)}"
