"""Scripts as JSON, for runs whose client is another program.

A file holds a list of replies, or an object with one of:
    replies   list; a reply has text, thinking, signature, toolCalls, finish, usage, pieces, or a
              `fault` (httpError, cut, streamError, malformed, slow, hang, reset) with that fault's
              keys and, where it has one, its `reply`
    callTool  {"pattern": REGEX, "arguments": {...}, "times": N}
    routes    list of scripts, each with contains, system, lastUser, model or dialect beside it;
              `otherwise` (a script) answers the rest
Keys are camelCase; an unknown key is an error.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from tests.model_server.fault import (
    Cut,
    Fault,
    Hang,
    HttpError,
    Malformed,
    Reset,
    Slow,
    StreamError,
)
from tests.model_server.json_values import JsonObject
from tests.model_server.reply import Reply, ToolCall, Usage
from tests.model_server.script import Action, CallTool, Queue, Route, Routes, Script

_FAULTS: Mapping[str, type[Fault]] = {
    "httpError": HttpError,
    "cut": Cut,
    "streamError": StreamError,
    "malformed": Malformed,
    "slow": Slow,
    "hang": Hang,
    "reset": Reset,
}
_T = TypeVar("_T")
_CONDITIONS = ("contains", "system", "lastUser", "model", "dialect")


class ScriptFileError(ValueError):
    """A script file that cannot be played; the message names the place."""


def parse_script(value: object, at: str = "script") -> Script:
    """The script that a file's JSON describes.

    Raises:
        ScriptFileError: A key is unknown or missing, or a value is of the wrong kind.
    """
    if isinstance(value, list):
        return _queue(cast("list[object]", value), at)
    source = _object(value, at)
    kinds = [kind for kind in ("replies", "callTool", "routes") if kind in source]
    if len(kinds) != 1:
        message = f"{at}: exactly one of replies, callTool, routes is needed, not {sorted(source)}"
        raise ScriptFileError(message)
    kind = kinds[0]
    _refuse_others(source, {kind, "otherwise"} if kind == "routes" else {kind}, at)
    place = f"{at}.{kind}"
    if kind == "callTool":
        return _built(CallTool, _object(source[kind], place), place)
    items = _list(source[kind], place)
    if kind == "replies":
        return _queue(items, place)
    routes = [_route(item, f"{place}[{index}]") for index, item in enumerate(items)]
    rest = source.get("otherwise")
    return Routes(
        *routes, otherwise=None if rest is None else parse_script(rest, f"{at}.otherwise")
    )


def _queue(items: list[object], at: str) -> Queue:
    return Queue([_action(item, f"{at}[{index}]") for index, item in enumerate(items)])


def _route(value: object, at: str) -> Route:
    source = dict(_object(value, at))
    conditions = {key: source.pop(key) for key in _CONDITIONS if key in source}
    return _built(Route, {"script": parse_script(source, at), **conditions}, at)


def _action(value: object, at: str) -> Action:
    source = dict(_object(value, at))
    name = source.pop("fault", None)
    if name is None:
        return _reply(source, at)
    if name not in _FAULTS:
        message = f"{at}.fault: {name!r} is none of {', '.join(_FAULTS)}"
        raise ScriptFileError(message)
    if "reply" in source:
        source["reply"] = _reply(_object(source["reply"], f"{at}.reply"), f"{at}.reply")
    return _built(_FAULTS[name], source, at)


def _reply(value: JsonObject, at: str) -> Reply:
    source = dict(value)
    if "toolCalls" in source:
        place = f"{at}.toolCalls"
        source["toolCalls"] = tuple(
            _built(ToolCall, _object(item, f"{place}[{index}]"), f"{place}[{index}]")
            for index, item in enumerate(_list(source["toolCalls"], place))
        )
    if "usage" in source:
        source["usage"] = _built(Usage, _object(source["usage"], f"{at}.usage"), f"{at}.usage")
    return _built(Reply, source, at)


def _built(make: Callable[..., _T], source: JsonObject, at: str) -> _T:
    fields = {field.name for field in dataclasses.fields(cast("Any", make))}
    arguments = {_snake(key): value for key, value in source.items()}
    _refuse_others(arguments, fields, at)
    try:
        return make(**arguments)
    except TypeError as error:
        message = f"{at}: {error}"
        raise ScriptFileError(message) from None


def _snake(key: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), key)


def _refuse_others(source: Mapping[str, object], known: set[str], at: str) -> None:
    others = sorted(set(source) - known)
    if others:
        message = f"{at}: unknown key {others[0]!r}; known are {', '.join(sorted(known))}"
        raise ScriptFileError(message)


def _object(value: object, at: str) -> JsonObject:
    if not isinstance(value, dict):
        message = f"{at}: an object is needed"
        raise ScriptFileError(message)
    return cast("JsonObject", value)


def _list(value: object, at: str) -> list[object]:
    if not isinstance(value, list):
        message = f"{at}: a list is needed"
        raise ScriptFileError(message)
    return cast("list[object]", value)
