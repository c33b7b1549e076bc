"""What only the user can answer, whoever asks: an expert, or a server in the middle of a call."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from perstack.core.messages import ToolCall

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One open question.

    Attributes:
        id: Unique within the job, and for good: the id of the tool call that asks, or one made for
        the question of a skill server.
        tool_name: The interactive tool, or the skill whose server asks.
        message: What to show to the user.
        arguments: What the expert gave to the tool; empty for a server's question.
        schema: A flat JSON Schema of the answer: an object of plain values, choices and lists of
        choices, as forms of the protocol allow.
        origin: Who asks. The question of a `skill` is gone with the process that runs the job; that
        of an `expert` is durable.
    """

    id: str
    tool_name: str
    message: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    schema: Schema
    origin: Literal["expert", "skill"] = "expert"


def question_of(call: ToolCall) -> Question:
    """The question that a call of an interactive tool puts."""
    return Question(
        id=call.id,
        tool_name=call.tool_name,
        message=_message(call),
        arguments=call.args,
        schema=call.answer_schema or _schema(call.args),
    )


def _message(call: ToolCall) -> str:
    only = next(iter(call.args.values())) if len(call.args) == 1 else None
    if isinstance(only, str):
        return only
    return f"{call.tool_name}: {json.dumps(call.args, ensure_ascii=False)}"


def _schema(arguments: Mapping[str, Any]) -> Schema:
    answer: Schema = {"type": "string", "title": "Answer"}
    options: object = arguments.get("options")
    if isinstance(options, list):
        choices = [choice for choice in cast("list[object]", options) if isinstance(choice, str)]
        if choices and len(choices) == len(cast("list[object]", options)):
            answer["enum"] = choices
    return {"type": "object", "properties": {"answer": answer}, "required": ["answer"]}
