"""Everything that answers the requests of one principal, on top of an open engine.

Imports what the first call needs and the list of tools does not.
"""

import os

from perstack.server.calls.desk import Desk
from perstack.server.calls.sealing import KEY_BYTES, seal_key
from perstack.server.calls.waiting import Rhythm
from perstack.server.calls.windows import Windows
from perstack.server.port import ServedEngine
from perstack.server.reading.archive import Archive
from perstack.server.tasks.tasks import Tasks
from perstack.store.sqlite import store_path


class EngineOffice:
    """The office of one engine.

    Args:
        engine: Where the jobs are.
        windows: How long a call waits for its job.
        has_job_tools: Whether callers have the tools that look after jobs.
        transport: `pipe` for stdio, `tcp` for HTTP.
        rhythm: How often to look and to report.

    Attributes:
        desk: For tool calls.
        archive: For resources.
        tasks: For calls that became tasks.
    """

    def __init__(
        self,
        engine: ServedEngine,
        *,
        windows: Windows | None = None,
        has_job_tools: bool = True,
        transport: str = "pipe",
        rhythm: Rhythm | None = None,
    ) -> None:
        self._engine = engine
        self._seal_key: bytes | None = None
        self.archive = Archive(engine)
        self.tasks = Tasks(engine, has_job_tools=has_job_tools)
        self.desk = Desk(
            engine,
            windows=windows or Windows(),
            has_job_tools=has_job_tools,
            transport=transport,
            rhythm=rhythm,
        )

    @property
    def seal_key(self) -> bytes:
        """Seals what clients keep between two rounds of questions."""
        if self._seal_key is None:
            engine = self._engine
            self._seal_key = (
                os.urandom(KEY_BYTES)
                if engine.settings.is_in_memory
                else seal_key(store_path(engine.workspace).parent)
            )
        return self._seal_key
