"""What the user answers: whether it fits the form, and how an expert is told of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from perstack.definition.answer_schema import choices_of

Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What becomes of a question that a skill's server asks.

    Attributes:
        action: What the user did with the form: filled it in, said no, or closed it.
        content: The fields, if it was filled in.
    """

    action: Literal["accept", "decline", "cancel"]
    content: Content = field(default_factory=dict[str, Any])


def as_text(content: Content) -> str:
    """A filled form in words: the only field by itself, several as JSON."""
    if not content:
        return "The user agreed."
    if len(content) == 1:
        only: object = next(iter(content.values()))
        return only if isinstance(only, str) else json.dumps(only, ensure_ascii=False)
    return json.dumps(dict(content), ensure_ascii=False)


def content_of(text: str, schema: Mapping[str, Any]) -> Content:
    """The form that a text stands for: the value of its only field, or a JSON object.

    What the text does not hold is left out; `misfits` says so.
    """
    fields: dict[str, dict[str, Any]] = schema["properties"]
    value = _json(text)
    form = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    if form is not None and set(form) <= set(fields):
        return form
    required = cast("list[str]", schema.get("required", []))
    asked = list(fields) if len(fields) == 1 else required
    if len(asked) != 1:
        return {}
    return {asked[0]: _meant(text, cast("object", value), fields[asked[0]])}


def misfits(content: Content, schema: Mapping[str, Any]) -> list[str]:
    """What in a filled form does not fit, each with the field's name."""
    fields: dict[str, dict[str, Any]] = schema["properties"]
    required = cast("list[str]", schema.get("required", []))
    missing = [f"{name} is missing" for name in required if content.get(name) is None]
    unknown = [f"{name[:60]!r} is unknown" for name in content if name not in fields]
    wrong = [
        f"{name} {problem}"
        for name, value in content.items()
        if name in fields and value is not None
        for problem in _misfit(value, fields[name])
    ]
    return [*missing, *unknown, *wrong]


def fields_of(schema: Mapping[str, Any]) -> str:
    """What a form asks for, in words: each field with its type or its choices."""
    fields: dict[str, dict[str, Any]] = schema["properties"]
    return ", ".join(
        f"{name} ({' | '.join(choices_of(field) or (field['type'],))})"
        for name, field in fields.items()
    )


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _meant(text: str, value: object, described: Mapping[str, Any]) -> object:
    match described["type"]:
        case "string":
            return _choice(text.strip(), choices_of(described)) or text
        case "boolean":
            said = text.strip().strip(".!").casefold()
            return {"yes": True, "y": True, "no": False, "n": False}.get(said, value)
        case "array" if not text.lstrip().startswith("["):
            allowed = choices_of(described)
            return [_choice(part.strip(), allowed) or part.strip() for part in text.split(",")]
        case _:
            return value


def _choice(text: str, allowed: tuple[str, ...] | None) -> str | None:
    """The choice that is meant, however its letters are written."""
    return next((each for each in allowed or () if each.casefold() == text.casefold()), None)


def _misfit(value: object, described: Mapping[str, Any]) -> Iterator[str]:
    match described["type"], value:
        case "string", str():
            yield from _out_of_range(len(value), described, "Length", "characters")
            yield from _not_a_choice([value], described)
        case "boolean", bool():
            pass
        case ("number" | "integer") as kind, int() | float() if not isinstance(value, bool):
            if kind == "integer" and not float(value).is_integer():
                yield "must be a whole number"
            yield from _out_of_range(value, described, "imum", "")
        case "array", list():
            items = cast("list[object]", value)
            yield from _out_of_range(len(items), described, "Items", "items")
            yield from _not_a_choice(items, described)
        case kind, _:
            article = "an" if kind in ("integer", "array") else "a"
            yield f"must be {article} {kind}"


def _out_of_range(value: float, described: Mapping[str, Any], of: str, unit: str) -> Iterator[str]:
    least, most = described.get(f"min{of}"), described.get(f"max{of}")
    if least is not None and value < least:
        yield f"must be at least {least} {unit}".rstrip()
    if most is not None and value > most:
        yield f"must be at most {most} {unit}".rstrip()


def _not_a_choice(values: list[object], described: Mapping[str, Any]) -> Iterator[str]:
    allowed = choices_of(described)
    if allowed is not None and not all(value in allowed for value in values):
        yield f"must be one of {', '.join(allowed)}"
    elif described["type"] == "array" and not all(isinstance(value, str) for value in values):
        yield "must be a list of texts"
