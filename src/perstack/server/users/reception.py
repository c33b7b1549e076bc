"""Finds the office of each caller, and has it opened when it is first wanted.

A client gets its list of tools before an engine is even imported. Without authentication there is
one engine, for everyone. With it each principal has one of their own, so that nothing of a
principal can be reached by a mistake in a request's handling; it is closed when it is not used.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from logging import getLogger

import anyio

from perstack.definition.load import Loaded
from perstack.definition.model import Definitions
from perstack.errors import PerstackError
from perstack.runtime.clock import SystemClock
from perstack.runtime.ports import Clock
from perstack.server.caller import LOCAL, Caller
from perstack.server.face import Activity, Office
from perstack.server.users.engines import Opener
from perstack.server.users.premises import Premises
from perstack.server.users.users import Users

LOG = getLogger(__name__)
QUIET_SECONDS = 0.3


class Reception:
    """Stands where the engines will be.

    Args:
        engines: Opens them.
        users: How principals are treated; `None` if nobody is asked who they are.
        clock: Says how long an engine has not been used.

    Attributes:
        settled: Set once what can be opened ahead is open, or is known not to be possible to open.
    """

    def __init__(
        self, engines: Opener, users: Users | None = None, clock: Clock | None = None
    ) -> None:
        self._engines = engines
        self._users = users
        self._clock = clock or SystemClock()
        self._premises: dict[str, Premises] = {}
        self._visitors: Counter[str] = Counter()
        self._to_open: list[Premises] = []
        self._news = anyio.Event()
        self._is_prepared = False
        self._is_closing = False
        self._closed = anyio.Event()
        self.settled = anyio.Event()

    @property
    def is_open(self) -> bool:
        """Whether calls can be answered."""
        if self._users is not None:
            return self._is_prepared
        return any(premises.is_open for premises in self._premises.values())

    def definitions(self) -> Definitions:
        """The present snapshot."""
        return self._engines.loaded.definitions

    async def open(self) -> None:
        """Open what can be opened before anyone calls.

        Returns when that is done, or is known not to be possible.
        """
        try:
            self._engines.prepare()
            self._is_prepared = True
            if self._users is None:
                premises = await self._find(LOCAL)
                await premises.settled.wait()
            else:
                await self._open_for_work(self._users.most_open // 2)
        except PerstackError as error:
            LOG.error("perstack: %s", error)  # noqa: TRY400 - the text says it all
        finally:
            self.settled.set()

    async def _open_for_work(self, most: int) -> None:
        """Open engines with something to do, but leave places for those who call."""
        principals = await self._engines.left_behind()
        for principal in principals[:most]:
            await self._find(principal)
        if len(principals) > most:
            LOG.warning(
                "perstack: %d users have jobs that were left behind; those of %d go on now,"
                " the others' when they call.",
                len(principals),
                most,
            )

    async def office(self, caller: Caller) -> Office:
        """The office of the caller's principal, once it is open.

        Raises:
            PerstackError: It cannot be opened; the message says why.
        """
        premises = await self._find(LOCAL if self._users is None else caller.principal)
        return await premises.office()

    @contextmanager
    def visit(self, principal: str) -> Generator[None]:
        """Keep the engine of a principal open, if it is, while a request of theirs is answered."""
        self._visitors[principal] += 1
        try:
            yield
        finally:
            self._visitors[principal] -= 1
            if not self._visitors[principal]:
                del self._visitors[principal]
            if principal in self._premises:
                self._premises[principal].used_at_ms = self._clock.now_ms()

    async def adopt(self, loaded: Loaded) -> None:
        """Use other definitions from now on, in the engines that are open and in all others.

        An engine of one of many principals that cannot use them keeps its own, and the log says so.

        Raises:
            ConfigError: The only engine cannot use them. Nothing has changed then.
        """
        before = self._engines.loaded
        self._engines.adopt(loaded)
        for premises in tuple(self._premises.values()):
            try:
                await premises.adopt(loaded)
            except PerstackError as error:
                if self._users is None:
                    self._engines.adopt(before)
                    raise
                LOG.warning("perstack: %s keeps the definitions before: %s", premises, error)

    async def run(self, activity: Activity) -> None:
        """Open engines as they are wanted, until `close`.

        They are opened from here, and not from the requests that want them, because an engine shall
        not carry what belongs to one request through its life: a span, and who has sent it.
        """
        try:
            async with anyio.create_task_group() as engines, anyio.create_task_group() as care:
                care.start_soon(self._close_unused)
                while not self._is_closing:
                    for premises in self._to_open:
                        engines.start_soon(premises.run, activity)
                    self._to_open.clear()
                    await self._news.wait()
                    self._news = anyio.Event()
                care.cancel_scope.cancel()
        finally:
            self._is_closing = True
            for premises in self._to_open:
                premises.give_up()
            self.settled.set()
            self._closed.set()

    async def open_when_idle(self, activity: Activity) -> None:
        """Open the engine a moment after the tools were listed, so that no call waits for it."""
        await activity.listed.wait()
        await anyio.sleep(QUIET_SECONDS)
        await self.open()

    async def close(self, seconds: float) -> None:
        """Stop all jobs, resumable, and close the engines; what takes longer is given up."""
        self._is_closing = True
        for premises in self._premises.values():
            premises.close()
        self._news.set()
        with anyio.move_on_after(seconds):
            await self._closed.wait()

    async def _find(self, principal: str) -> Premises:
        complaint = ""
        while True:
            if self._is_closing:
                raise PerstackError("perstack is shutting down.")
            known = self._premises.get(principal)
            if known is None:
                known = self._begin(principal, complaint)
            if not known.is_closing:
                known.used_at_ms = self._clock.now_ms()
                return known
            await known.closed.wait()
            complaint = known.complaint
            if self._premises.get(principal) is known:
                del self._premises[principal]

    def _begin(self, principal: str, complaint: str) -> Premises:
        if self._users is not None:
            self._make_room(self._users.most_open)
        premises = Premises(principal, self._engines, complaint)
        self._premises[principal] = premises
        self._to_open.append(premises)
        self._news.set()
        return premises

    def _make_room(self, most_open: int) -> None:
        serving = [premises for premises in self._premises.values() if not premises.is_closing]
        if len(serving) < most_open:
            return
        unused = [premises for premises in serving if self._is_unused(premises)]
        if not unused:
            raise PerstackError(
                "The server is serving as many users as it can.", hint="Try again in a minute."
            )
        min(unused, key=lambda premises: premises.used_at_ms).close()

    def _is_unused(self, premises: Premises) -> bool:
        return (
            premises.settled.is_set()
            and not premises.has_live_jobs
            and not self._visitors[premises.principal]
        )

    async def _close_unused(self) -> None:
        if self._users is None:
            return
        idle_ms = self._users.idle_seconds * 1000
        while True:
            await self._clock.sleep(self._users.idle_seconds / 4)
            now = self._clock.now_ms()
            for principal, premises in tuple(self._premises.items()):
                if premises.closed.is_set():
                    del self._premises[principal]
                elif self._is_unused(premises) and now - premises.used_at_ms >= idle_ms:
                    premises.close()
