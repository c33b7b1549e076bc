"""What answers the requests of one tenant, on top of its engine.

Imports what the first call needs and `tools/list` does not.
"""

import os
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from perstack.server.resources.reader import ResourceReader
from perstack.server.tasks.service import TaskService
from perstack.server.tools.call import ToolCallHandler
from perstack.server.tools.wait import PollSettings, WaitPolicy
from perstack.stores import store_path

if TYPE_CHECKING:
    from perstack.engine import Engine

LOG = getLogger(__name__)
KEY_BYTES = 32
KEY_FILE = "request-state.key"


class TenantServices:
    """The services of one engine; `transport` is `pipe` for stdio, `tcp` for HTTP."""

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
        self.resources = ResourceReader(engine)
        self.tasks = TaskService(engine, has_job_tools=has_job_tools)
        self.tools = ToolCallHandler(
            engine,
            wait_policy=wait_policy or WaitPolicy(),
            has_job_tools=has_job_tools,
            transport=transport,
            poll_settings=poll_settings,
        )

    @cached_property
    def request_state_key(self) -> bytes:
        """Seals what clients keep between two rounds of questions."""
        if self._engine.settings.is_in_memory:
            return os.urandom(KEY_BYTES)
        return request_state_key(store_path(self._engine.workspace).parent)


def request_state_key(folder: Path) -> bytes:
    """The key in `folder`, created if necessary, which only its owner can read.

    It is in the workspace, so that every process that serves the workspace can continue a call. If
    it cannot be written, it is valid in this process only.
    """
    path = folder / KEY_FILE
    try:
        return _read_key(path) or _create_key(path)
    except OSError as error:
        LOG.warning("The key %s cannot be kept: %s", path, error.strerror)
        return os.urandom(KEY_BYTES)


def _read_key(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    return key if len(key) == KEY_BYTES else None


def _create_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{KEY_FILE}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(os.urandom(KEY_BYTES))
    try:
        os.link(draft, path)
    except FileExistsError:
        if _read_key(path) is None:  # a damaged one
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path.read_bytes()
