"""Questions to the user, and validation and rendering of the answers."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

from perstack.core.messages import ToolCall
from perstack.definition.form_schema import field_choices
from perstack.json_schema import type_error

FormContent = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElicitationReply:
    """The answer to an elicitation of a skill's server.

    Attributes:
        action: What the user did with the form: filled it in, said no, or closed it.
        content: The fields, if it was filled in.
    """

    action: Literal["accept", "decline", "cancel"]
    content: FormContent = field(default_factory=dict[str, Any])


def format_content(content: FormContent) -> str:
    """A filled form as text: the value of a single field, several fields as JSON."""
    if not content:
        return "The user agreed."
    if len(content) == 1:
        only: object = next(iter(content.values()))
        return only if isinstance(only, str) else json.dumps(only, ensure_ascii=False)
    return json.dumps(dict(content), ensure_ascii=False)


def parse_reply(text: str, schema: Mapping[str, Any]) -> FormContent:
    """The form content from a text: the value of the only field, or a JSON object.

    Fields that the text does not have are left out; `form_errors` reports them.
    """
    fields: dict[str, dict[str, Any]] = schema["properties"]
    value = _parse_json(text)
    form = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    if form is not None and set(form) <= set(fields):
        return form
    required = cast("list[str]", schema.get("required", []))
    target_fields = list(fields) if len(fields) == 1 else required
    if len(target_fields) != 1:
        return {}
    plain = text if value is None else cast("object", value)
    return {target_fields[0]: _coerce_text(text, plain, fields[target_fields[0]])}


def form_errors(content: FormContent, schema: Mapping[str, Any]) -> list[str]:
    """What in a filled form does not fit, each with the field's name."""
    fields: dict[str, dict[str, Any]] = schema["properties"]
    required = cast("list[str]", schema.get("required", []))
    missing = [f"{name} is missing" for name in required if content.get(name) is None]
    unknown = [f"{name[:60]!r} is unknown" for name in content if name not in fields]
    wrong = [
        f"{name} {problem}"
        for name, value in content.items()
        if name in fields and value is not None
        for problem in _field_errors(value, fields[name])
    ]
    return [*missing, *unknown, *wrong]


def describe_fields(schema: Mapping[str, Any]) -> str:
    """The fields of a form as text, each with its type or its choices."""
    fields: dict[str, dict[str, Any]] = schema["properties"]
    return ", ".join(
        f"{name} ({' | '.join(field_choices(field) or (field['type'],))})"
        for name, field in fields.items()
    )


def answer_format(schema: Mapping[str, Any]) -> str:
    """How an answer in words is written, as a sentence; empty where any text is one."""
    fields: dict[str, dict[str, Any]] = schema["properties"]
    if len(fields) > 1:
        return f"Answer with a JSON object; its fields are: {describe_fields(schema)}."
    field = next(iter(fields.values()), {"type": "string"})
    if choices := field_choices(field):
        amount = "some" if field["type"] == "array" else "one"
        return f"Answer with {amount} of: {', '.join(choices)}."
    return _TYPE_FORMATS.get(field["type"], "")


_TYPE_FORMATS = {
    "boolean": "Answer with yes or no.",
    "integer": "Answer with a whole number.",
    "number": "Answer with a number.",
}


def question_text(question: "Question") -> str:
    """A question as people and models read it: what is asked, and what may be answered."""
    return "\n".join(part for part in (question.message, answer_format(question.schema)) if part)


def is_free_text(schema: Mapping[str, Any]) -> bool:
    """Whether every text is an answer as it is."""
    fields: dict[str, dict[str, Any]] = schema["properties"]
    return list(fields.values()) == [DEFAULT_FIELD]


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _coerce_text(text: str, value: object, field_schema: Mapping[str, Any]) -> object:
    match field_schema["type"]:
        case "string":
            return _match_choice(text.strip(), field_choices(field_schema)) or text
        case "boolean":
            word = text.strip().strip(".!").casefold()
            return {"yes": True, "y": True, "no": False, "n": False}.get(word, value)
        case "array" if not text.lstrip().startswith("["):
            allowed = field_choices(field_schema)
            return [
                _match_choice(part.strip(), allowed) or part.strip() for part in text.split(",")
            ]
        case _:
            return value


def _match_choice(text: str, allowed: tuple[str, ...] | None) -> str | None:
    """The choice that equals the text, ignoring case and how a sentence ends."""
    by_word = {each.casefold(): each for each in allowed or ()}
    return by_word.get(text.casefold(), by_word.get(text.rstrip(".!").casefold()))


def _field_errors(value: object, field_schema: Mapping[str, Any]) -> Iterator[str]:
    kind: str = field_schema["type"]
    is_fraction = kind == "integer" and isinstance(value, float)
    error = type_error(value, "number" if is_fraction else kind)
    if error is not None:
        yield error
        return
    match value:
        case str():
            yield from _range_errors(len(value), field_schema, "Length", "characters")
            yield from _format_errors(value, field_schema)
            yield from _choice_errors([value], field_schema)
        case bool():
            pass
        case int() | float():
            if is_fraction and not float(value).is_integer():
                yield "must be a whole number"
            yield from _range_errors(value, field_schema, "imum", "")
        case _:
            items = cast("list[object]", value)
            yield from _range_errors(len(items), field_schema, "Items", "items")
            yield from _choice_errors(items, field_schema)


def _format_errors(value: str, field_schema: Mapping[str, Any]) -> Iterator[str]:
    name = field_schema.get("format")
    if isinstance(name, str) and name in _FORMATS and not _FORMATS[name](value):
        yield f"must be of the format {name}"


def _is_date(text: str) -> bool:
    return len(text) == len("2026-01-31") and _is_date_time(f"{text}T00:00:00Z")


def _is_date_time(text: str) -> bool:
    try:
        return "T" in text.upper() and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


_FORMATS: Mapping[str, Callable[[str], object]] = {
    "date": _is_date,
    "date-time": _is_date_time,
    "email": re.compile(r"[^@\s]+@[^@\s]+").fullmatch,
    "uri": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+").fullmatch,
}


def _range_errors(
    value: float, field_schema: Mapping[str, Any], keyword_suffix: str, unit: str
) -> Iterator[str]:
    minimum, maximum = (
        field_schema.get(f"min{keyword_suffix}"),
        field_schema.get(f"max{keyword_suffix}"),
    )
    if minimum is not None and value < minimum:
        yield f"must be at least {minimum} {unit}".rstrip()
    if maximum is not None and value > maximum:
        yield f"must be at most {maximum} {unit}".rstrip()


def _choice_errors(values: list[object], field_schema: Mapping[str, Any]) -> Iterator[str]:
    allowed = field_choices(field_schema)
    if allowed is not None and not all(value in allowed for value in values):
        yield f"must be one of {', '.join(allowed)}"
    elif field_schema["type"] == "array" and not all(isinstance(value, str) for value in values):
        yield "must be a list of texts"


FormSchema = dict[str, Any]

DEFAULT_FIELD: FormSchema = {"type": "string", "title": "Answer"}
"""The only field of a question that says nothing about its answer."""

OPTIONS = "options"
"""The argument in which an expert gives the choices of a question."""


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
        origin: Who asks. The question of a `skill` ends with the process that runs the job; that
        of an `expert` is durable.
    """

    id: str
    tool_name: str
    message: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    schema: FormSchema
    origin: Literal["expert", "skill"] = "expert"


def question_from_call(call: ToolCall) -> Question:
    """The question that a call of an interactive tool puts."""
    schema = call.answer_schema or _default_form_schema(call.args)
    # The choices of a form are shown with it.
    has_choices = call.answer_schema is None and not is_free_text(schema)
    return Question(
        id=call.id,
        tool_name=call.tool_name,
        message=_question_message(call, {OPTIONS} if has_choices else set()),
        arguments=call.args,
        schema=schema,
    )


def _question_message(call: ToolCall, hidden: set[str]) -> str:
    texts: list[object] = [value for name, value in call.args.items() if name not in hidden]
    if len(texts) == 1 and isinstance(texts[0], str):
        return texts[0]
    return f"{call.tool_name}: {json.dumps(call.args, ensure_ascii=False)}"


def _default_form_schema(arguments: Mapping[str, Any]) -> FormSchema:
    answer: FormSchema = dict(DEFAULT_FIELD)
    options: object = arguments.get(OPTIONS)
    if isinstance(options, list):
        choices = [choice for choice in cast("list[object]", options) if isinstance(choice, str)]
        if choices and len(choices) == len(cast("list[object]", options)):
            answer["enum"] = choices
    return {"type": "object", "properties": {"answer": answer}, "required": ["answer"]}
