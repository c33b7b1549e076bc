"""A script as the text of its file."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from perstack.errors import ConfigError
from perstack.llm.scripted.script import Script

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ENDING_QUOTE = re.compile(r'"(?="|\Z)')
"""One that could be taken for a part of the end of the text."""

_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def script_json(script: Script) -> str:
    """The script as JSON."""
    return json.dumps(_script_object(script), ensure_ascii=False, indent=2)


def script_toml(script: Script) -> str:
    """The script as TOML.

    Raises:
        ConfigError: It has a value that TOML cannot express.
    """
    experts: dict[str, list[dict[str, Any]]] = _script_object(script).get("experts", {})
    tables = [
        "\n".join((f"[[experts.{_format_key(key)}]]", *_format_fields(reply)))
        for key, replies in experts.items()
        for reply in replies
    ]
    return "\n\n".join(tables)


def _script_object(script: Script) -> dict[str, Any]:
    return script.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _format_fields(reply: dict[str, Any]) -> Iterator[str]:
    for name, value in reply.items():
        if name == "toolCalls":
            calls = ",\n".join(f"  {_format_value(call)}" for call in value)
            yield f"toolCalls = [\n{calls},\n]"
        elif isinstance(value, str) and "\n" in value:
            yield f"{name} = {_format_multiline(value)}"
        else:
            yield f"{name} = {_format_value(value)}"


def _format_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _quote(key)


def _format_value(value: Any) -> str:
    match value:
        case None:
            raise ConfigError(
                "The script has a null, which TOML cannot express.",
                hint="Have it written as JSON, with --json.",
            )
        case str():
            return _quote(value)
        case dict():
            table = cast("dict[str, Any]", value)
            pairs = (f"{_format_key(key)} = {_format_value(item)}" for key, item in table.items())
            return f"{{ {', '.join(pairs)} }}" if table else "{}"
        case list():
            return f"[{', '.join(map(_format_value, cast('list[Any]', value)))}]"
        case _:
            return json.dumps(value)


def _quote(text: str) -> str:
    # A JSON string is a TOML string, but for one character that TOML wants to be escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _format_multiline(text: str) -> str:
    escaped = _ENDING_QUOTE.sub(r'\\"', text.replace("\\", "\\\\"))
    escaped = _CONTROL_CHARACTER.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped)
    return f'"""\n{escaped}"""'
