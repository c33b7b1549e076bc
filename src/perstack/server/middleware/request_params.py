"""The params of a request: read as they are meant, and named in the error if they are wrong."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from pydantic import ValidationError

from perstack.server.caller import RequestContext

MAX_PROBLEMS = 8
MISSING = "missing"


async def validate_params(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
    """Middleware that says what is missing or wrong, which the SDK leaves out.

    Raises:
        MCPError: The params do not fit the method. No value is repeated.
    """
    try:
        return await call_next(replace(ctx, params=_repair_params(ctx.method, ctx.params)))
    except ValidationError as error:
        problems = list(dict.fromkeys(map(_describe, error.errors(include_input=False))))
        text = "; ".join(problems[:MAX_PROBLEMS])
        raise MCPError(code=INVALID_PARAMS, message=f"Invalid params: {text}") from error


def _repair_params(method: str, params: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if method == "initialize":
        # Absent as a whole, each of its parts is missing.
        return params or {}
    if method != "tools/call" or params is None:
        return params
    arguments = params.get("arguments")
    if isinstance(arguments, str | list):
        return {**params, "arguments": _parse_arguments(cast("str | list[object]", arguments))}
    return params


def _parse_arguments(arguments: str | list[object]) -> object:
    """The arguments that clients write as a text, and as an empty list if there are none (PHP)."""
    if isinstance(arguments, list):
        return arguments or {}
    if not arguments.strip():
        return {}
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _describe(problem: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"] if part != "params")
    name = path or "params"
    return f"{name} is missing" if problem["type"] == MISSING else f"{name} is not valid"
