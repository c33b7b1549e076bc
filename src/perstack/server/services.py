"""Everything that answers the requests of one principal, on top of an open engine.

Imports what the first call needs and the list of tools does not.
"""

import os
from typing import TYPE_CHECKING

from perstack.server.middleware.request_state import KEY_BYTES, request_state_key
from perstack.server.resources.reader import ResourceReader
from perstack.server.tasks.service import TaskService
from perstack.server.tools.call import ToolCallHandler
from perstack.server.tools.wait import PollSettings, WaitPolicy
from perstack.store.sqlite import store_path

if TYPE_CHECKING:
    from perstack.engine import Engine


class TenantServices:
    """The office of one engine.

    Args:
        engine: Where the jobs are.
        wait_policy: How long a call waits for its job.
        has_job_tools: Whether callers have the tools that look after jobs.
        transport: `pipe` for stdio, `tcp` for HTTP.
        poll_settings: How often to look and to report.

    Attributes:
        tools: For tool calls.
        resources: For resources.
        tasks: For calls that became tasks.
    """

    def __init__(
        self,
        engine: "Engine",
        *,
        wait_policy: WaitPolicy | None = None,
        has_job_tools: bool = True,
        transport: str = "pipe",
        poll_settings: PollSettings | None = None,
    ) -> None:
        self._engine = engine
        self._request_state_key: bytes | None = None
        self.resources = ResourceReader(engine)
        self.tasks = TaskService(engine, has_job_tools=has_job_tools)
        self.tools = ToolCallHandler(
            engine,
            wait_policy=wait_policy or WaitPolicy(),
            has_job_tools=has_job_tools,
            transport=transport,
            poll_settings=poll_settings,
        )

    @property
    def request_state_key(self) -> bytes:
        """Seals what clients keep between two rounds of questions."""
        if self._request_state_key is None:
            engine = self._engine
            self._request_state_key = (
                os.urandom(KEY_BYTES)
                if engine.settings.is_in_memory
                else request_state_key(store_path(engine.workspace).parent)
            )
        return self._request_state_key
