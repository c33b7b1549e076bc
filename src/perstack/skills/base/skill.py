"""The base skill: the tools that every expert has, in this process."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from perstack.core.messages import ResultPart, ToolCall, ToolResult
from perstack.core.tools import ToolDefinition, argument_problems
from perstack.core.verification import VerificationResult, judged
from perstack.definition.verification import Verification
from perstack.skills.base import (
    control,
    directories,
    execute,
    files_move,
    files_read,
    files_write,
    health,
    media,
)
from perstack.skills.base.defaults import SHOWN_BY_DEFAULT
from perstack.skills.base.failure import ToolFailure, failure_of
from perstack.skills.base.tool import BuiltInTool, GroupGuard, Surroundings, as_text
from perstack.skills.base.verify import make_check
from perstack.skills.workspace import Workspace

TOOLS: dict[str, BuiltInTool] = {
    tool.definition.name: tool
    for family in (execute, files_read, media, files_write, files_move, directories, health)
    for tool in family.TOOLS
}
DEFINITIONS: dict[str, ToolDefinition] = {
    definition.name: definition
    for definition in (*control.DEFINITIONS, *(tool.definition for tool in TOOLS.values()))
}


def shown(pick: tuple[str, ...] = (), omit: tuple[str, ...] = ()) -> tuple[ToolDefinition, ...]:
    """The tools that an expert is shown: those it picks, else the usual ones.

    Args:
        pick: Names out of all tools; unknown ones are ignored.
        omit: Names that are left out in any case.
    """
    names = [name for name in pick or SHOWN_BY_DEFAULT if name not in omit]
    return tuple(tool for name, tool in DEFINITIONS.items() if name in names)


class BaseSkill:
    """The built-in tools for one job.

    Args:
        workspace: The folder that the tools may touch.
        environment: What commands inherit from, filtered; its `HOME` is what `~` stands for.
        group_guard: Told of each process group that is started, if someone watches over them.
        monotonic: Seconds on a clock that only goes forward.

    Raises:
        OSError: The workspace does not exist.
    """

    def __init__(
        self,
        workspace: Path,
        environment: Mapping[str, str],
        *,
        group_guard: GroupGuard | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._surroundings = Surroundings(
            workspace=Workspace(workspace, environment.get("HOME")),
            environment=environment,
            group_guard=group_guard,
            monotonic=monotonic,
            started_seconds=monotonic(),
        )

    def definitions(
        self, pick: tuple[str, ...] = (), omit: tuple[str, ...] = ()
    ) -> tuple[ToolDefinition, ...]:
        """See `shown`."""
        return shown(pick, omit)

    async def call(self, call: ToolCall) -> ToolResult:
        """Answer a call. Whatever goes wrong is a result; only cancellation is raised."""
        try:
            return _result(call, await self._answer(call))
        except ValidationError as error:
            return _failed(call, ToolFailure("InvalidArguments", argument_problems(error)))
        except ToolFailure as failure:
            return _failed(call, failure)
        except OSError as error:
            return _failed(call, failure_of(error, "Tool", call.tool_name))
        except Exception as error:  # noqa: BLE001 - the contract: a broken tool must not end the run
            reason = f"{call.tool_name} failed unexpectedly ({type(error).__name__})."
            return _failed(call, ToolFailure("IOError", reason))

    async def verify(self, verification: Verification, answer: str) -> VerificationResult:
        """Make a check. Whatever goes wrong is a result; only cancellation is raised."""
        try:
            return await make_check(self._surroundings, verification, answer)
        except ToolFailure as failure:
            return judged(verification, failure.message.rstrip("."))
        except OSError as error:
            return judged(verification, failure_of(error, "Check", verification.name).message)
        except Exception as error:  # noqa: BLE001 - the contract: a broken check must not end the run
            return judged(verification, f"the check failed unexpectedly ({type(error).__name__})")

    async def _answer(self, call: ToolCall) -> tuple[ResultPart, ...]:
        if call.args_error is not None:
            raise ToolFailure("InvalidArguments", call.args_error)
        tool = TOOLS.get(call.tool_name)
        if tool is None:
            raise _no_such_tool(call.tool_name)
        answer = await tool.respond(self._surroundings, call.args)
        return (as_text(answer),) if isinstance(answer, dict) else answer


def _no_such_tool(name: str) -> ToolFailure:
    if name in DEFINITIONS:
        return ToolFailure("UnknownTool", f"{name} is answered by the run, not by the base skill.")
    return ToolFailure(
        "UnknownTool", f"There is no tool {name!r}. Tools: {', '.join(DEFINITIONS)}."
    )


def _result(call: ToolCall, parts: tuple[ResultPart, ...], *, is_error: bool = False) -> ToolResult:
    return ToolResult(
        id=call.id,
        skill_name=call.skill_name,
        tool_name=call.tool_name,
        result=parts,
        is_error=is_error,
    )


def _failed(call: ToolCall, failure: ToolFailure) -> ToolResult:
    facts: dict[str, Any] = {"error": failure.error, "message": failure.message, **failure.details}
    return _result(call, (as_text(facts),), is_error=True)
