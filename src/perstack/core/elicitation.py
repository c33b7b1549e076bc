"""Questions to the user, and validation and rendering of the answers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
    return {target_fields[0]: _coerce_text(text, cast("object", value), fields[target_fields[0]])}


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
    """The choice that equals the text, ignoring case."""
    return next((each for each in allowed or () if each.casefold() == text.casefold()), None)


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
    return Question(
        id=call.id,
        tool_name=call.tool_name,
        message=_question_message(call),
        arguments=call.args,
        schema=call.answer_schema or _default_form_schema(call.args),
    )


def _question_message(call: ToolCall) -> str:
    only = next(iter(call.args.values())) if len(call.args) == 1 else None
    if isinstance(only, str):
        return only
    return f"{call.tool_name}: {json.dumps(call.args, ensure_ascii=False)}"


def _default_form_schema(arguments: Mapping[str, Any]) -> FormSchema:
    answer: FormSchema = {"type": "string", "title": "Answer"}
    options: object = arguments.get("options")
    if isinstance(options, list):
        choices = [choice for choice in cast("list[object]", options) if isinstance(choice, str)]
        if choices and len(choices) == len(cast("list[object]", options)):
            answer["enum"] = choices
    return {"type": "object", "properties": {"answer": answer}, "required": ["answer"]}
