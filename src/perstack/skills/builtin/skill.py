"""The base skill: the tools that every expert has, in this process."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from perstack.core.messages import ResultPart, ToolCall, ToolResult, tool_result
from perstack.core.tools import ToolDefinition, describe_validation_error
from perstack.core.verification import VerificationResult, build_verification_result
from perstack.definition.references import DEFAULT_TOOL_NAMES
from perstack.definition.verification import Verification
from perstack.skills.builtin import (
    control,
    directories,
    execute,
    media,
    move,
    read,
    search,
    write,
)
from perstack.skills.builtin.failures import ToolFailure, failure_from_os_error
from perstack.skills.builtin.tool import BuiltInTool, ToolContext, json_part
from perstack.skills.builtin.verify import run_verification
from perstack.skills.builtin.workspace import Workspace
from perstack.skills.subprocesses import Launcher

TOOLS_BY_NAME: dict[str, BuiltInTool] = {
    tool.definition.name: tool
    for family in (execute, search, read, media, write, move, directories, control)
    for tool in family.TOOLS
}
DEFINITIONS_BY_NAME: dict[str, ToolDefinition] = {
    definition.name: definition
    for definition in (*control.DEFINITIONS, *(tool.definition for tool in TOOLS_BY_NAME.values()))
}


@lru_cache(maxsize=64)
def select_definitions(
    pick: tuple[str, ...] = (), omit: tuple[str, ...] = ()
) -> tuple[ToolDefinition, ...]:
    """The tools that an expert is shown: those it picks, else the default ones.

    Args:
        pick: Names out of all tools; unknown ones are ignored.
        omit: Names that are left out in any case.
    """
    names = [name for name in pick or DEFAULT_TOOL_NAMES if name not in omit]
    hidden = [name for name in DEFINITIONS_BY_NAME if name not in names]
    return tuple(
        _without_mentions(tool, hidden)
        for name, tool in DEFINITIONS_BY_NAME.items()
        if name in names
    )


def _without_mentions(tool: ToolDefinition, names: Sequence[str]) -> ToolDefinition:
    """A tool whose description does not send the expert to tools that it does not have."""
    mention = re.compile(rf"\b({'|'.join(names)})s?\b")
    sentences = tool.description.split(". ")
    kept = [sentence for sentence in sentences if not mention.search(sentence)]
    if len(kept) == len(sentences):
        return tool
    return replace(tool, description=". ".join(kept).rstrip(".") + ".")


class BuiltInSkill:
    """The built-in tools for one job.

    Args:
        workspace: The folder that the tools may touch.
        environment: Commands inherit from it, filtered; its `HOME` is the value of `~`.
        launcher: Starts the commands.
        monotonic: Seconds on a clock that only goes forward.

    Raises:
        OSError: The workspace does not exist.
    """

    def __init__(
        self,
        workspace: Path,
        environment: Mapping[str, str],
        *,
        launcher: Launcher | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = ToolContext(
            workspace=Workspace(workspace, environment.get("HOME")),
            environment=environment,
            launcher=launcher or Launcher(),
            monotonic=monotonic,
            started_at=monotonic(),
        )

    definitions = staticmethod(select_definitions)

    async def call(self, call: ToolCall) -> ToolResult:
        """Execute a call. Every failure is an error result; only cancellation is raised."""
        try:
            return tool_result(call, await self._execute(call))
        except ValidationError as error:
            return _error_result(
                call, ToolFailure("InvalidArguments", describe_validation_error(error))
            )
        except ToolFailure as failure:
            return _error_result(call, failure)
        except OSError as error:
            return _error_result(call, failure_from_os_error(error, "Tool", call.tool_name))
        except Exception as error:  # noqa: BLE001 - the contract: a broken tool must not end the run
            reason = f"{call.tool_name} failed unexpectedly ({type(error).__name__})."
            return _error_result(call, ToolFailure("IOError", reason))

    async def verify(self, verification: Verification, answer: str) -> VerificationResult:
        """Run a verification. Every failure is a result; only cancellation is raised."""
        try:
            return await run_verification(self._context, verification, answer)
        except ToolFailure as failure:
            return build_verification_result(verification, failure.message.rstrip("."))
        except OSError as error:
            return build_verification_result(
                verification, failure_from_os_error(error, "Check", verification.name).message
            )
        except Exception as error:  # noqa: BLE001 - the contract: a broken check must not end the run
            return build_verification_result(
                verification, f"the check failed unexpectedly ({type(error).__name__})"
            )

    async def _execute(self, call: ToolCall) -> tuple[ResultPart, ...]:
        if call.args_error is not None:
            raise ToolFailure("InvalidArguments", call.args_error)
        tool = TOOLS_BY_NAME.get(call.tool_name)
        if tool is None:
            raise _unknown_tool(call.tool_name)
        output = await tool.handler(self._context, call.args)
        return (json_part(output),) if isinstance(output, dict) else output


def _unknown_tool(name: str) -> ToolFailure:
    if name in DEFINITIONS_BY_NAME:
        return ToolFailure("UnknownTool", f"{name} is answered by the run, not by the base skill.")
    return ToolFailure(
        "UnknownTool", f"There is no tool {name!r}. Tools: {', '.join(DEFINITIONS_BY_NAME)}."
    )


def _error_result(call: ToolCall, failure: ToolFailure) -> ToolResult:
    facts: dict[str, Any] = {"error": failure.error, "message": failure.message, **failure.details}
    return tool_result(call, (json_part(facts),), is_error=True)
