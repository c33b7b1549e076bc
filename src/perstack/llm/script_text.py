"""A script as the text of its file."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from perstack.errors import ConfigError
from perstack.llm.script import Script

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ENDING_QUOTE = re.compile(r'"(?="|\Z)')
"""One that could be taken for a part of the end of the text."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def script_json(script: Script) -> str:
    """The script as JSON."""
    return json.dumps(_document(script), ensure_ascii=False, indent=2)


def script_toml(script: Script) -> str:
    """The script as TOML.

    Raises:
        ConfigError: It has a value that TOML cannot express.
    """
    experts: dict[str, list[dict[str, Any]]] = _document(script).get("experts", {})
    tables = [
        "\n".join((f"[[experts.{_key(key)}]]", *_fields(reply)))
        for key, replies in experts.items()
        for reply in replies
    ]
    return "\n\n".join(tables)


def _document(script: Script) -> dict[str, Any]:
    return script.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _fields(reply: dict[str, Any]) -> Iterator[str]:
    for name, value in reply.items():
        if name == "toolCalls":
            calls = ",\n".join(f"  {_value(call)}" for call in value)
            yield f"toolCalls = [\n{calls},\n]"
        elif isinstance(value, str) and "\n" in value:
            yield f"{name} = {_lines(value)}"
        else:
            yield f"{name} = {_value(value)}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _quoted(key)


def _value(value: Any) -> str:
    match value:
        case None:
            raise ConfigError(
                "The script has a null, which TOML cannot express.",
                hint="Have it written as JSON, with --json.",
            )
        case str():
            return _quoted(value)
        case dict():
            table = cast("dict[str, Any]", value)
            pairs = (f"{_key(key)} = {_value(item)}" for key, item in table.items())
            return f"{{ {', '.join(pairs)} }}" if table else "{}"
        case list():
            return f"[{', '.join(map(_value, cast('list[Any]', value)))}]"
        case _:
            return json.dumps(value)


def _quoted(text: str) -> str:
    # A JSON string is a TOML string, but for one character that TOML wants to be escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines(text: str) -> str:
    escaped = _ENDING_QUOTE.sub(r'\\"', text.replace("\\", "\\\\"))
    escaped = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped)
    return f'"""\n{escaped}"""'
