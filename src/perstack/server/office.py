"""Everything that answers the requests of one principal, on top of an open engine.

Imports what the first call needs and the list of tools does not.
"""

from perstack.server.archive import Archive
from perstack.server.desk import Desk
from perstack.server.port import ServedEngine
from perstack.server.waiting import Rhythm


class EngineOffice:
    """The office of one engine.

    Args:
        engine: Where the jobs are.
        default_wait_seconds: How long a call waits that does not say it.
        has_job_tools: Whether callers have the tools that look after jobs.
        transport: `pipe` for stdio, `tcp` for HTTP.
        rhythm: How often to look and to report.

    Attributes:
        desk: For tool calls.
        archive: For resources.
    """

    def __init__(
        self,
        engine: ServedEngine,
        *,
        default_wait_seconds: float,
        has_job_tools: bool = True,
        transport: str = "pipe",
        rhythm: Rhythm | None = None,
    ) -> None:
        self.archive = Archive(engine)
        self.desk = Desk(
            engine,
            default_wait_seconds=default_wait_seconds,
            has_job_tools=has_job_tools,
            transport=transport,
            rhythm=rhythm,
        )
