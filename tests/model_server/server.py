"""The server: a listener with an event loop in a thread of its own."""

import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Self

import anyio
import anyio.from_thread
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from tests.model_server.connection import ClientGoneError, Connection, HttpRequest
from tests.model_server.deliver import CloseConnectionError, Delivery
from tests.model_server.dialects.dialect import Dialect
from tests.model_server.dialects.registry import dialect_for
from tests.model_server.fault import HttpError
from tests.model_server.gate import Gate
from tests.model_server.request import Request
from tests.model_server.script import Action, ScriptError, ScriptLike, as_script
from tests.model_server.side_paths import side_answer


@dataclass(frozen=True)
class Visit:
    """A request that called no model."""

    method: str
    path: str


class _Milestones:
    """A count that the server's thread raises and the tests wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._gates: list[tuple[int, Gate]] = []

    def advance(self) -> None:
        with self._lock:
            self._count += 1
            reached = [gate for wanted, gate in self._gates if wanted <= self._count]
        for gate in reached:
            gate.open()

    async def reached(self, wanted: int) -> None:
        gate = Gate()
        with self._lock:
            if self._count >= wanted:
                return
            self._gates.append((wanted, gate))
        await gate.wait()


class ModelServer:
    """Speaks to clients on the loopback; use as a context manager.

    Attributes:
        requests: Every model call so far, in order.
        visits: Every other request so far.
        side_answers: What to answer to other requests, by path and query: a status and a body.
        left_early: Numbers of the requests whose client left before its answer was complete.
        failures: What the script raised.

    Args:
        script: Who answers.
        port: 0 picks a free one.
        on_request: Called with each model call before it is answered, on the server's thread.
    """

    def __init__(
        self,
        script: ScriptLike,
        *,
        port: int = 0,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self._script = as_script(script)
        self._wanted_port = port
        self._on_request = on_request
        self._stack = contextlib.ExitStack()
        self._arrivals = _Milestones()
        self._leavings = _Milestones()
        self.port = 0
        self.requests: list[Request] = []
        self.visits: list[Visit] = []
        self.side_answers: dict[str, tuple[int, bytes]] = {}
        self.left_early: list[int] = []
        self.failures: list[Exception] = []

    def __enter__(self) -> Self:
        with self._stack:
            portal = self._stack.enter_context(
                anyio.from_thread.start_blocking_portal("asyncio", name="model server")
            )
            serving, self.port = portal.start_task(self._serve)
            self._stack.callback(serving.cancel)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is None and self.failures:
            message = f"the script failed: {self.failures[0]}"
            raise ScriptError(message) from self.failures[0]

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT`, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def set_script(self, script: ScriptLike) -> None:
        """Answer by another script from the next request on."""
        self._script = as_script(script)

    async def wait_for_requests(self, count: int) -> None:
        """Return once so many model calls have arrived in all."""
        await self._arrivals.reached(count)

    async def wait_for_leaving(self, count: int) -> None:
        """Return once so many clients have left before their answers were complete."""
        await self._leavings.reached(count)

    async def _serve(self, *, task_status: TaskStatus[int]) -> None:
        listener = await anyio.create_tcp_listener(
            local_host="127.0.0.1", local_port=self._wanted_port
        )
        async with listener:
            task_status.started(listener.extra(SocketAttribute.local_port))  # noqa: S610 - a socket, no query
            await listener.serve(self._converse)

    async def _converse(self, stream: SocketStream) -> None:
        async with stream:
            connection = Connection(stream)
            try:
                while True:
                    await self._answer(connection, await connection.read_request())
            except (ClientGoneError, CloseConnectionError):
                return
            except Exception as failure:  # noqa: BLE001 - one bad request must not end the server
                self.failures.append(failure)

    async def _answer(self, connection: Connection, http: HttpRequest) -> None:
        dialect = dialect_for(http.path) if http.method == "POST" else None
        if dialect is None:
            self.visits.append(Visit(http.method, http.target))
            body = b"" if http.method == "HEAD" else json.dumps(side_answer(http.path)).encode()
            status, body = self.side_answers.get(http.target, (200, body))
            await connection.send_whole(status, "application/json", body)
            return
        request = self._logged(dialect, http)
        action = self._decided(request)
        try:
            await Delivery(connection, dialect, request).deliver(action)
        except ClientGoneError:
            self.left_early.append(request.number)
            self._leavings.advance()
            raise

    def _logged(self, dialect: Dialect, http: HttpRequest) -> Request:
        body = http.json_object
        request = Request(
            number=len(self.requests) + 1,
            dialect=dialect.name,
            conversation=dialect.read(http.target, body),
            path=http.target,
            headers=http.headers,
            raw=http.body,
            body=body,
            received_at=time.monotonic(),
        )
        self.requests.append(request)
        self._arrivals.advance()
        if self._on_request is not None:
            self._on_request(request)
        return request

    def _decided(self, request: Request) -> Action:
        try:
            return self._script.decide(request)
        except Exception as failure:  # noqa: BLE001 - a test's own function; raised again at exit
            self.failures.append(failure)
            # 400 is the status that no client tries again.
            return HttpError(400, f"the script failed: {failure}")


@contextlib.asynccontextmanager
async def model_server(script: ScriptLike, *, port: int = 0) -> AsyncGenerator[ModelServer]:
    """A running server.

    Raises:
        ScriptError: On leaving, if a request had no answer in the script or the script raised.
    """
    with ModelServer(script, port=port) as server:
        yield server
