"""Typed reading of JSON that a client sent, where any value may be missing or of another kind."""

import json
from collections.abc import Mapping
from typing import Any, cast

JsonObject = dict[str, Any]


def as_object(value: object) -> JsonObject:
    """The value if it is a JSON object, else an empty one."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def as_objects(value: object) -> list[JsonObject]:
    """The objects of a JSON list; anything else in it is dropped."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("JsonObject", item) for item in items if isinstance(item, dict)]


def as_text(value: object) -> str:
    """A string as it is, an absent value as "", anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def text_parts(content: object) -> list[str]:
    """The texts in message content: one string, or a list of parts of which some carry `text`."""
    if isinstance(content, str):
        return [content]
    return [as_text(part["text"]) for part in as_objects(content) if "text" in part]


def joined_text(content: object) -> str:
    """The texts of message content on lines of their own."""
    return "\n".join(text_parts(content))


def decode_arguments(raw: object) -> Mapping[str, Any] | str:
    """Tool arguments as an object, or the raw string where it is not the JSON of one."""
    if isinstance(raw, dict):
        return cast("JsonObject", raw)
    text = as_text(raw)
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return cast("JsonObject", value) if isinstance(value, dict) else text
