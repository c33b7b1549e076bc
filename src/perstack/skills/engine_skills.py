"""The skills of one engine: what its jobs share, and the skills of each job."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from perstack.definition.model import Definitions
from perstack.runtime.ports import Skills
from perstack.skills.context import SkillContext, SkillTimeouts, open_context
from perstack.skills.known_tools import KnownTools
from perstack.skills.pool import open_skills
from perstack.skills.server_command import shared_identities

if TYPE_CHECKING:
    from perstack.skills.connection_set import ConnectionSet


@asynccontextmanager
async def open_engine_skills(
    *,
    workspace: Path,
    environment: Mapping[str, str],
    tools_folder: Path | None = None,
    timeouts: SkillTimeouts | None = None,
) -> AsyncGenerator["EngineSkills"]:
    """The skills of one engine; leaving, after all jobs, ends the processes that they shared.

    Args:
        workspace: The folder that experts may touch; also the working folder of the servers.
        environment: Where skills find what they name in `requiredEnv`.
        tools_folder: Where it is kept what servers with `lazyInit` offer; else in memory.
        timeouts: How long things may take.
    """
    async with open_context(workspace, environment, timeouts or SkillTimeouts()) as context:
        skills = EngineSkills(context, KnownTools(tools_folder))
        try:
            yield skills
        finally:
            with anyio.CancelScope(shield=True):
                await skills.close()


class EngineSkills:
    """Opens the skills of jobs, which share the servers of skills with `scope = "engine"`."""

    def __init__(self, context: SkillContext, known_tools: KnownTools) -> None:
        self._context = context
        self._known_tools = known_tools
        self._definitions: Definitions | None = None
        self._identities: frozenset[str] = frozenset()
        self._shared: ConnectionSet | None = None

    @asynccontextmanager
    async def open_job(self, definitions: Definitions) -> AsyncGenerator[Skills]:
        """The pool of skills of a job that uses these definitions."""
        if definitions is not self._definitions:
            self._definitions = definitions
            self._identities = shared_identities(definitions)
        context = self._context
        try:
            async with open_skills(
                workspace=context.workspace,
                environment=context.environment,
                definitions=definitions,
                timeouts=context.timeouts,
                get_shared=self._get_shared,
                known_tools=self._known_tools,
            ) as skills:
                yield skills
        finally:
            if self._shared is not None:
                # Those of a definition that is no more are left once their last job has ended.
                self._shared.retain(self._identities)

    async def close(self) -> None:
        """End every shared server."""
        if self._shared is not None:
            await self._shared.close()

    def _get_shared(self) -> "ConnectionSet":
        if self._shared is None:
            # The SDK takes over half a second to import, and the built-in skill does without it.
            from perstack.skills.connection_set import ConnectionSet  # noqa: PLC0415 -- see above

            self._shared = ConnectionSet(self._context, is_shared=True)
        return self._shared
