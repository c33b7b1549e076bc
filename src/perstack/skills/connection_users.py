"""Which jobs use a connection, and which of them something that its server does is for."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from logging import getLogger
from typing import Any

import anyio

from perstack.runtime.ports import SkillListener

LOG = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionUser:
    """A run that uses a connection: its job, by identity, and who listens for it."""

    job: object
    listener: SkillListener


class ConnectionUsers:
    """The jobs that use one connection, and their open calls.

    A server asks and writes without saying for which call. On a connection that jobs share, that is
    for a job only while no other has an open call: a job must not learn of another's, and its user
    must not answer for another's.

    Args:
        starter: Has the server started, and is told how that goes.
        is_shared: Whether several jobs may use the connection.
    """

    def __init__(self, starter: ConnectionUser, *, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._starter: ConnectionUser | None = starter
        self._latest = starter
        self._by_job: dict[object, ConnectionUser] = {}
        self._calls: dict[object, list[ConnectionUser]] = {}
        self._questions: dict[object, set[anyio.CancelScope]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no job uses the connection."""
        return not self._by_job

    def add(self, user: ConnectionUser, name: str, server_info: dict[str, Any] | None) -> None:
        """A run uses the connection, which is ready; its job is told so at the first time."""
        is_starter = self._starter is not None and self._starter.job is user.job
        if self._is_shared and user.job not in self._by_job and not is_starter:
            user.listener.connected(name, server_info, {})
        self._by_job[user.job] = self._latest = user

    def remove(self, job: object) -> None:
        """A job has ended, and is told nothing more."""
        self._by_job.pop(job, None)
        if self._starter is not None and self._starter.job is job:
            self._starter = None

    @contextmanager
    def call(self, user: ConnectionUser) -> Generator[None]:
        """Entered around a call; questions of a job are withdrawn with its last call."""
        calls = self._calls.setdefault(user.job, [])
        calls.append(user)
        try:
            yield
        finally:
            calls.remove(user)
            if not calls:
                del self._calls[user.job]
                for question in self._questions.pop(user.job, ()):
                    question.cancel()

    def asked(self) -> ConnectionUser | None:
        """Whose call a question of the server is about; `None` if that cannot be told."""
        if not self._is_shared:
            calls = self._calls.get(self._latest.job)
            return calls[-1] if calls else self._latest
        jobs = list(self._calls)
        return self._calls[jobs[0]][-1] if len(jobs) == 1 else None

    @contextmanager
    def question(self, user: ConnectionUser) -> Generator[None]:
        """Entered around a question to the user of a job."""
        with anyio.CancelScope() as scope:
            self._questions.setdefault(user.job, set()).add(scope)
            try:
                yield
            finally:
                self._questions.get(user.job, set()).discard(scope)

    def connecting(self, name: str, skill_type: str) -> AbstractContextManager[None]:
        starter = self._starter
        return nullcontext() if starter is None else starter.listener.connecting(name, skill_type)

    def starting(self, name: str, command: str, args: tuple[str, ...]) -> None:
        if self._starter is not None:
            self._starter.listener.starting(name, command, args)

    def connected(
        self, name: str, server_info: dict[str, Any] | None, durations_ms: dict[str, float]
    ) -> None:
        if self._starter is not None:
            self._starter.listener.connected(name, server_info, durations_ms)

    def stderr(self, name: str, line: str) -> None:
        """The server wrote a line: for whoever has it started, later for whoever calls it."""
        user = self._starter if self.is_empty else self.asked()
        if user is not None:
            user.listener.stderr(name, line)
        else:
            LOG.info("skill %s: %s", name, line)

    def disconnected(self, name: str) -> None:
        """The connection that was ready is closed."""
        for user in tuple(self._by_job.values()) if self._is_shared else (self._latest,):
            user.listener.disconnected(name)
