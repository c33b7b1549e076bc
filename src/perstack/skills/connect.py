"""One connection to one skill server, from the first attempt to its end.

Its context managers belong to one task, which opens and closes them. Calls are made from the tasks
of the runs that make them: each carries its own trace context and is cancelled with its run.
"""

import contextlib
from typing import Any, cast

import anyio
from mcp.client import Client
from mcp.client.session import ClientRequestContext
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp.types import (
    CONNECTION_CLOSED,
    URL_ELICITATION_REQUIRED,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    ElicitRequest,
    ElicitRequestParams,
    ElicitResult,
    Implementation,
    InputRequiredResult,
    InputResponses,
    PaginatedRequestParams,
    Tool,
)
from pydantic import TypeAdapter, ValidationError

from perstack.errors import SkillError
from perstack.runtime.ports import SkillListener
from perstack.skills.elicit import ask_user
from perstack.skills.limits import Limits
from perstack.skills.stopwatch import Stopwatch
from perstack.skills.wire import Wire

MAX_PAGES = 100
MAX_ROUNDS = 10
WITHOUT_QUESTION_SECONDS = 0.25
IDEMPOTENCY_KEY = "perstack/idempotencyKey"
SESSION_ENDED = "Session terminated"

ANSWER: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(
    CallToolResult | InputRequiredResult
)


class ConnectionGoneError(Exception):
    """The server ended, or can no longer be reached, before it answered."""


class UnusableAnswerError(Exception):
    """The server answered something that nothing can be done with."""


class Connection:
    """A connection that is being opened, is open, or has failed or ended.

    Args:
        name: Name of the skill.
        wire: The first way to try.
        listener: Is told what happens; replaced by the listener of the run that asked last.
        limits: How long things may take.
    """

    def __init__(
        self,
        name: str,
        wire: Wire,
        listener: SkillListener,
        limits: Limits,
    ) -> None:
        self.name = name
        self.listener = listener
        self.ready = anyio.Event()
        self.closed = anyio.Event()
        self.tools: tuple[Tool, ...] = ()
        self.failure: SkillError | None = None
        self.is_gone = False
        self._wire = wire
        self._client: Client | None = None
        self._stop = anyio.Event()
        self._is_closing = False
        self._limits = limits
        self._stopwatch = Stopwatch(limits.call_seconds)
        # Its own limits hold instead: a cancelled job must still end its servers in order.
        self._scope = anyio.CancelScope(shield=True)

    async def own(self) -> None:
        """Open the connection, keep it until `close` or its end, and close it. Never raises.

        The task that runs this is the connection's owner.
        """
        begun = anyio.current_time()
        self._scope.deadline = begun + self._limits.start_seconds
        try:
            with self._scope, contextlib.ExitStack() as connecting:
                connecting.enter_context(self.listener.connecting(self.name, self._wire.skill_type))
                try:
                    await self._open_somehow(connecting)
                except anyio.get_cancelled_exc_class() as cancelled:
                    if self.ready.is_set() or not self._scope.cancel_called:
                        raise
                    # As an exception of its own, so that what measures the attempt sees it fail.
                    raise self._failed(self._why_cancelled()) from cancelled
                except Exception as error:
                    raise self._as_failure(error) from error
        except Exception as error:  # noqa: BLE001 -- whatever a server does, the job's other skills go on
            if not self.ready.is_set():
                self.failure = self._as_failure(error)
        finally:
            self._finish()

    def close(self) -> None:
        """Ask the owner to end the connection; it does so within a bounded time."""
        self._is_closing = True
        self._stop.set()
        if self.ready.is_set():
            self._scope.deadline = anyio.current_time() + self._limits.close_seconds
        else:
            self._scope.cancel()

    async def call(
        self, tool_name: str, args: dict[str, Any], idempotency_key: str
    ) -> CallToolResult:
        """Call a tool and wait for its answer; cancellation is passed on to the server.

        Raises:
            ConnectionGoneError: The server ended before it answered; whether it acted is unknown.
            TimeoutError: The answer took longer than any call may.
            MCPError: The server refused the call.
            UnusableAnswerError: The server asks for what cannot be had here.
            ValueError: The answer is not one that the protocol knows.
        """
        params = CallToolRequestParams(
            name=tool_name, arguments=args, _meta={IDEMPOTENCY_KEY: idempotency_key}
        )
        for _ in range(MAX_ROUNDS):
            try:
                answer = await self._send(params)
            except MCPError as error:
                await self._visit_pages(error)
                continue
            if not isinstance(answer, InputRequiredResult):
                return answer
            replies = await self._replies(answer)
            params = params.model_copy(
                update={"input_responses": replies, "request_state": answer.request_state}
            )
        raise UnusableAnswerError(f"it asks for input more than {MAX_ROUNDS} times")

    async def _send(self, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        client = self._client
        if client is None or self.is_gone:
            raise ConnectionGoneError
        request = CallToolRequest(params=params)
        try:
            with self._stopwatch.limit():
                # Not `call_tool`: it discards a result that strays from the tool's output schema.
                return await client.session.send_request(request, ANSWER)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            self._lost()
            raise ConnectionGoneError from error
        except MCPError as error:
            if error.code == CONNECTION_CLOSED or error.message == SESSION_ENDED:
                self._lost()
                raise ConnectionGoneError from error
            raise

    async def _replies(self, asking: InputRequiredResult) -> InputResponses | None:
        """What the user answers to all that a server asks in the place of a result."""
        asked = asking.input_requests
        if not asked:
            await anyio.sleep(WITHOUT_QUESTION_SECONDS)
            return None
        replies: InputResponses = {}

        async def reply_to(key: str, params: ElicitRequestParams) -> None:
            replies[key] = await self._ask(params)

        forms = {key: each for key, each in asked.items() if isinstance(each, ElicitRequest)}
        if len(forms) < len(asked):
            raise UnusableAnswerError("it asks for more than a user can answer")
        async with anyio.create_task_group() as tasks:
            for key, form in forms.items():
                tasks.start_soon(reply_to, key, form.params)
        return replies

    async def _visit_pages(self, error: MCPError) -> None:
        """Have the user open what a server of the older protocol wants opened before the call.

        Raises:
            MCPError: It wants something else, or the user does not open it.
        """
        if error.code != URL_ELICITATION_REQUIRED:
            raise error
        wanted = UrlElicitationRequiredError.from_error(error.error).elicitations
        for page in wanted:
            if (await self._ask(page)).action != "accept":
                raise error

    async def _elicited(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        """A server of the older protocol asks while its call is open."""
        with self._stopwatch.pause():
            return await self._ask(params)

    async def _ask(self, params: ElicitRequestParams) -> ElicitResult:
        return await ask_user(self.listener, self.name, params, self._wire.redactor.diagnostics)

    def redact_result(self, text: str) -> str:
        """A result's text without the secrets that the server was given."""
        return self._wire.redactor.result(text)

    def describe(self, error: BaseException) -> str:
        """What went wrong, in words that can be shown."""
        if isinstance(error, MCPError) and error.code == CONNECTION_CLOSED:
            return "it ended before it was ready"
        if isinstance(error, ValidationError):
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            return f"it answers what the protocol does not allow: {place}: {problem['msg']}"
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return self._wire.redactor.diagnostics(text.rstrip("."))

    def starting(self, command: str, args: tuple[str, ...]) -> None:
        self.listener.starting(self.name, command, args)

    def said(self, line: str) -> None:
        self.listener.stderr(self.name, line)

    def ended(self) -> None:
        self._lost()

    async def _open_somehow(self, connecting: contextlib.ExitStack) -> None:
        while True:
            try:
                await self._open(connecting)
            except Exception:
                wire = None if self.ready.is_set() else self._wire.fallback()
                if wire is None:
                    raise
                self._wire = wire
                self._stop = anyio.Event()
                self.is_gone = False
            else:
                return

    async def _open(self, connecting: contextlib.ExitStack) -> None:
        begun = anyio.current_time()
        client = Client(
            self._wire.transport(self),
            mode=self._wire.era,
            cache=None,
            elicitation_callback=self._elicited,
            client_info=Implementation(name=f"{self.name}-mcp-client", version="1.0.0"),
        )
        async with client:
            shaken = anyio.current_time()
            self.tools = await list_tools(client)
            listed = anyio.current_time()
            self._client = client
            self._scope.deadline = float("inf")
            connecting.close()
            spawn = self._wire.spawn_seconds
            seconds = {
                "spawn": spawn,
                "handshake": shaken - begun - spawn,
                "toolDiscovery": listed - shaken,
                "connect": shaken - begun,
                "total": listed - begun,
            }
            self.listener.connected(
                self.name,
                _server_info(client),
                {phase: round(value * 1000, 3) for phase, value in seconds.items()},
            )
            self.ready.set()
            await self._stop.wait()
            self.is_gone = True
            self._scope.deadline = anyio.current_time() + self._limits.close_seconds

    def _as_failure(self, error: Exception) -> SkillError:
        cause = _innermost(error)
        return cause if isinstance(cause, SkillError) else self._failed(self.describe(cause))

    def _finish(self) -> None:
        was_open = self.ready.is_set()
        self.is_gone = True
        self._client = None
        if was_open:
            self.listener.disconnected(self.name)
        elif self.failure is None:
            self.failure = self._failed("it ended before it was ready")
        self.ready.set()
        self.closed.set()

    def _lost(self) -> None:
        self.is_gone = True
        self._stop.set()

    def _why_cancelled(self) -> str:
        if self._is_closing:
            return "the job ended"
        return f"it was not ready within {self._limits.start_seconds:g} seconds"

    def _failed(self, problem: str) -> SkillError:
        return SkillError(
            f"Skill {self.name!r} cannot be used: {problem}. {self._wire.failure_details()}",
            skill=self.name,
            hint="Try the command or endpoint by hand, and compare it with the definition.",
        )


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


async def list_tools(client: Client) -> tuple[Tool, ...]:
    """All tools of a server, page by page; none if it does not offer any.

    Raises:
        MCPError: The server refused the question.
        ValueError: It has more pages than any real server.
    """
    if client.server_capabilities.tools is None:
        return ()
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        params = None if cursor is None else PaginatedRequestParams(cursor=cursor)
        page = await client.session.list_tools(params=params)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tuple(tools)
    raise ValueError(f"its list of tools has more than {MAX_PAGES} pages")


def _server_info(client: Client) -> dict[str, Any] | None:
    info = client.server_info
    return None if info is None else {"name": info.name, "version": info.version}
