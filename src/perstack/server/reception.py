"""Opens the engine late: a client gets its list of tools before the engine is even imported.

The engine is opened by the first call, or once the server has been idle for a moment. If it cannot
be opened, every call says why, which is more than a client would show of a process that died.
"""

from collections.abc import Awaitable, Callable
from logging import getLogger

import anyio

from perstack.definition.model import Definitions
from perstack.errors import PerstackError
from perstack.server.caller import Caller
from perstack.server.face import Activity, Office
from perstack.settings import Settings

LOG = getLogger(__name__)
QUIET_SECONDS = 0.3


class Reception:
    """Stands where the engine will be.

    Args:
        settings: For the engine.
        definitions: What is known until it is open.
        default_wait_seconds: How long a call waits that does not say it.
        has_job_tools: Whether callers have the tools that look after jobs.

    Attributes:
        settled: Set once the engine is open, or is known not to be possible to open.
    """

    def __init__(
        self,
        settings: Settings,
        definitions: Definitions,
        *,
        default_wait_seconds: float,
        has_job_tools: bool = True,
    ) -> None:
        self._settings = settings
        self._definitions = definitions
        self._default_wait_seconds = default_wait_seconds
        self._has_job_tools = has_job_tools
        self._wanted = anyio.Event()
        self.settled = anyio.Event()
        self._closing = anyio.Event()
        self._closed = anyio.Event()
        self._office: Office | None = None
        self._failure: PerstackError | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls can be answered."""
        return self._office is not None

    def definitions(self) -> Definitions:
        """The present snapshot."""
        return self._definitions

    async def open(self) -> None:
        """Open the engine if it is not; returns when it is, or is known not to be possible."""
        self._wanted.set()
        await self.settled.wait()

    async def office(self, caller: Caller) -> Office:
        """The office, once it is open.

        Raises:
            PerstackError: It cannot be opened; the message says why.
        """
        await self.open()
        if self._office is None:
            raise self._failure or PerstackError("perstack is shutting down.")
        return self._office

    async def run(self, activity: Activity) -> None:
        """Keep the engine open from when it is wanted until `close`."""
        try:
            await self._wanted.wait()
            await self._serve(activity)
        except PerstackError as error:
            LOG.error("perstack: %s", error)  # noqa: TRY400 - the text says it all
            self._failure = error
        finally:
            self.settled.set()
            self._closed.set()

    async def open_when_idle(self, activity: Activity) -> None:
        """Open the engine a moment after the tools were listed, so that no call waits for it."""
        await activity.listed.wait()
        await anyio.sleep(QUIET_SECONDS)
        self._wanted.set()

    async def close(self, seconds: float) -> None:
        """Stop all jobs, resumable, and close the engine; what takes longer is given up."""
        self._closing.set()
        if self._wanted.is_set():
            with anyio.move_on_after(seconds):
                await self._closed.wait()

    async def _serve(self, activity: Activity) -> None:
        # Here and not above: this is what the client shall not wait for.
        from perstack.engine import open_engine  # noqa: PLC0415 - see above
        from perstack.server.office import EngineOffice  # noqa: PLC0415 - see above

        async with open_engine(self._settings) as engine, anyio.create_task_group() as tasks:
            self._office = EngineOffice(
                engine,
                default_wait_seconds=self._default_wait_seconds,
                has_job_tools=self._has_job_tools,
                transport="tcp" if self._settings.transport == "http" else "pipe",
            )
            self.settled.set()
            tasks.start_soon(_warm_up, engine.warm_up, activity)
            await self._closing.wait()
            tasks.cancel_scope.cancel()


async def _warm_up(work: Callable[[], Awaitable[None]], activity: Activity) -> None:
    """Load the rest while nobody waits; a call that comes first loads it itself."""
    await activity.idle.wait()
    try:
        await work()
    except Exception:  # a call will meet the same failure and report it
        LOG.warning("The model could not be made ready.", exc_info=True)
