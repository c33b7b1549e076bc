"""Everything that answers the requests of one principal, on top of an open engine.

Imports what the first call needs and the list of tools does not.
"""

from perstack.server.archive import Archive
from perstack.server.desk import Desk
from perstack.server.port import ServedEngine
from perstack.server.tasks import Tasks
from perstack.server.waiting import Rhythm
from perstack.server.windows import Windows


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
        self.archive = Archive(engine)
        self.tasks = Tasks(engine)
        self.desk = Desk(
            engine,
            windows=windows or Windows(),
            has_job_tools=has_job_tools,
            transport=transport,
            rhythm=rhythm,
        )
