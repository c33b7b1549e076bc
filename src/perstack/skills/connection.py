"""The connection to one skill server.

Its context managers are opened and closed by one task, `ServerConnection.run`. Calls are made from
the tasks of the runs: each carries its own trace context and is cancelled with its run.
"""

import contextlib
import json
from enum import Enum, auto
from typing import Any, Literal, Protocol

import anyio
from mcp.client import Client, Transport
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
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from perstack.core.tools import ToolDefinition
from perstack.errors import SkillError
from perstack.redaction import Redactor
from perstack.skills.connection_users import ConnectionUser, ConnectionUsers
from perstack.skills.context import SkillTimeouts
from perstack.skills.convert import to_tool_definition
from perstack.skills.elicitation import DECLINE_REASON_KEY, PausableTimeout, ask_user
from perstack.skills.raw_results import RawResults
from perstack.skills.responses import SESSION_LOST, excerpt
from perstack.skills.tool_listing import list_tools
from perstack.task_groups import first_exception

MAX_INPUT_REQUESTS = 10
EMPTY_INPUT_RETRY_SECONDS = 0.25
CHECK_HINT = "Try the command or endpoint by hand, and compare it with the definition."
IDEMPOTENCY_KEY = "perstack/idempotencyKey"
NOT_ATTRIBUTED = "several jobs have open calls, and the question names none of them"

TOOL_RESULT_ADAPTER: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(
    CallToolResult | InputRequiredResult
)

ProtocolMode = Literal["auto", "legacy"]
"""How the protocol version is agreed: newest first, or by the handshake of older servers."""


class ConnectionLostError(Exception):
    """The server ended, or can no longer be reached, before it answered."""


class SessionLostError(Exception):
    """The server does not know the session any more, and refused the call for that."""


class UnsupportedResponseError(Exception):
    """The server asks for what perstack does not provide."""


class ConnectionState(Enum):
    """The states of a connection, in order; one that fails to open skips `READY` and `CLOSING`."""

    CONNECTING = auto()
    READY = auto()
    CLOSING = auto()
    CLOSED = auto()


class SkillTransport(Protocol):
    """One way to reach one server, for one connection."""

    @property
    def skill_type(self) -> str:
        """The `type` in `perstack.toml`."""
        ...

    @property
    def protocol_mode(self) -> ProtocolMode:
        """How to agree on a protocol version."""
        ...

    @property
    def redactor(self) -> Redactor:
        """Redacts the value of every variable the server was given: for errors and stderr."""
        ...

    @property
    def result_redactor(self) -> Redactor:
        """Redacts variables with secret names only: results must be able to name a folder."""
        ...

    @property
    def spawn_seconds(self) -> float:
        """How long the server process took to start; 0 if there is none."""
        ...

    def on_ready(self, *, is_older: bool) -> None:
        """The server has told its tools; `is_older` if after the handshake of older servers."""
        ...

    def fallback(self) -> "SkillTransport | None":
        """Another way to try after this one failed to get ready, if there is one."""
        ...

    def failure_details(self) -> str:
        """What was tried and how it failed, for an error message, without secrets."""
        ...

    def open(self, connection: "ServerConnection") -> Transport:
        """The streams of the connection; leaving ends the server process or the session."""
        ...


class ServerConnection:
    """The connection to one server.

    Args:
        name: Name of the skill.
        transport: The first way to try.
        starter: Has it opened, and is told how that goes.
        timeouts: How long things may take.
        tools_version: A number that no connection to this server had before, of its list of tools.
        is_shared: Whether several jobs may use it.
    """

    def __init__(
        self,
        name: str,
        transport: SkillTransport,
        starter: ConnectionUser,
        timeouts: SkillTimeouts,
        tools_version: int = 0,
        *,
        is_shared: bool = False,
    ) -> None:
        self.name = name
        self.users = ConnectionUsers(starter, is_shared=is_shared)
        self._server_info: dict[str, Any] | None = None
        self.tools_version = tools_version
        self._tools: tuple[ToolDefinition, ...] = ()
        self._listed_version = tools_version
        self._listing = anyio.Lock()
        self._raw_results = RawResults(self._on_tools_changed)
        self.failure: SkillError | None = None
        self._state = ConnectionState.CONNECTING
        self._state_changed = anyio.Event()
        self._transport = transport
        self._client: Client | None = None
        self._is_slow_start_reported = False
        # Set when the server of the current attempt ended, or when the connection is to be closed.
        self._end = anyio.Event()
        self._timeouts = timeouts
        self._call_timeout = PausableTimeout(timeouts.call_seconds)
        # Its own limits apply instead: a cancelled job must still end its servers in order.
        self._scope = anyio.CancelScope(shield=True)

    @property
    def is_ready(self) -> bool:
        """Whether calls can be made."""
        return self._state is ConnectionState.READY

    @property
    def is_ended(self) -> bool:
        """Whether no call can be made any more."""
        return self._state in {ConnectionState.CLOSING, ConnectionState.CLOSED}

    async def wait_until_ready(self) -> None:
        """Wait for the first attempt to end.

        Raises:
            SkillError: The server cannot be used.
        """
        with anyio.move_on_after(self._timeouts.slow_start_seconds) as wait:
            await self._wait_while_connecting()
        if wait.cancelled_caught:
            self._report_slow_start()
            await self._wait_while_connecting()
        if self.failure is not None:
            raise self.failure

    def _report_slow_start(self) -> None:
        if not self._is_slow_start_reported:
            self._is_slow_start_reported = True
            self._warn(
                f"still starting after {self._timeouts.slow_start_seconds:g} seconds, of the "
                f"{self._timeouts.start_seconds:g} that startTimeout allows; a first start may "
                "have to download the server"
            )

    async def _wait_while_connecting(self) -> None:
        while self._state is ConnectionState.CONNECTING:
            await self._state_changed.wait()

    async def wait_until_closed(self) -> None:
        while self._state is not ConnectionState.CLOSED:
            await self._state_changed.wait()

    async def run(self) -> None:
        """Open the connection, keep it until `close` or its end, and close it. Never raises."""
        self._scope.deadline = anyio.current_time() + self._timeouts.start_seconds
        try:
            with self._scope, contextlib.ExitStack() as connecting:
                connecting.enter_context(
                    self.users.connecting(self.name, self._transport.skill_type)
                )
                try:
                    await self._open_with_fallback(connecting)
                except anyio.get_cancelled_exc_class() as cancelled:
                    is_connecting = self._state is ConnectionState.CONNECTING
                    if not (is_connecting and self._scope.cancel_called):
                        raise
                    # Not as a cancellation: `connecting` records the attempt as failed.
                    raise self._start_error() from cancelled
                except Exception as error:
                    raise self._to_skill_error(error) from error
        except Exception as error:  # noqa: BLE001 -- whatever a server does, the job's other skills go on
            if self._state is ConnectionState.CONNECTING:
                self.failure = self._to_skill_error(error)
        finally:
            self._finish()

    def close(self) -> None:
        """End the connection; `run` does so within a bounded time."""
        is_connecting = self._state is ConnectionState.CONNECTING
        self.end()
        if is_connecting:
            self._scope.cancel()
        else:
            self._scope.deadline = anyio.current_time() + self._timeouts.close_seconds

    def end(self) -> None:
        """Accept no more calls: the server has ended, or has to."""
        if self._state is ConnectionState.READY:
            self._set_state(ConnectionState.CLOSING)
        self._end.set()

    async def tools(self) -> tuple[ToolDefinition, ...]:
        """The tools of the server, which are listed again if it said that they have changed."""
        async with self._listing:
            version, client = self.tools_version, self._client
            if client is not None and version != self._listed_version:
                try:
                    with anyio.fail_after(self._timeouts.list_seconds):
                        self._tools = await self._list_tools(client)
                except (MCPError, TimeoutError, ValueError) as error:
                    problem = self.describe_error(error)
                    self._warn(f"its tools have changed, and cannot be listed: {problem}")
                self._listed_version = version
        return self._tools

    def renew_tools_version(self) -> None:
        """The tools differ from those that were known before the server was started."""
        self.tools_version = self._listed_version = self.tools_version + 1

    async def _list_tools(self, client: Client) -> tuple[ToolDefinition, ...]:
        tools = await list_tools(client, self._raw_results, self._warn)
        return tuple(to_tool_definition(self.name, tool) for tool in tools)

    def add_user(self, user: ConnectionUser) -> None:
        """A run uses the connection, which is ready."""
        self.users.add(user, self.name, self._server_info)

    async def call(
        self, tool_name: str, args: dict[str, Any], idempotency_key: str, user: ConnectionUser
    ) -> dict[str, Any]:
        """Call a tool, and return its result as the server wrote it.

        Cancellation is passed on to the server.

        Raises:
            ConnectionLostError: The server ended before it answered; whether it acted is unknown.
            SessionLostError: The server refused the call for its session, so it did not act.
            TimeoutError: The answer took longer than any call may.
            MCPError: The server refused the call.
            UnsupportedResponseError: The server asks for what perstack does not provide.
            ValueError: UTF-8 does not allow the arguments.
        """
        try:
            json.dumps(args, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # Noticed later, by the transport, it would end the connection.
            raise ValueError("the arguments contain half of a surrogate pair") from None
        params = CallToolRequestParams(
            name=tool_name, arguments=args, _meta={IDEMPOTENCY_KEY: idempotency_key}
        )
        for attempt in range(MAX_INPUT_REQUESTS):
            try:
                result = await self._send(params, user)
            except SessionLostError as error:
                if attempt > 0:
                    # It may have acted before it asked.
                    raise ConnectionLostError from error
                raise
            except MCPError as error:
                await self._elicit_urls(error, user)
                continue
            if not isinstance(result, InputRequiredResult):
                return self._raw_results.take(result)
            responses = await self._answer_input_requests(result, user)
            params = params.model_copy(
                update={"input_responses": responses, "request_state": result.request_state}
            )
        raise UnsupportedResponseError(f"it asks for input more than {MAX_INPUT_REQUESTS} times")

    async def _send(
        self, params: CallToolRequestParams, user: ConnectionUser
    ) -> CallToolResult | InputRequiredResult:
        client = self._client
        if client is None or self.is_ended:
            raise ConnectionLostError
        request = CallToolRequest(params=params)
        try:
            with self.users.call(user), self._call_timeout.limit(user.job):
                # Not `call_tool`: it rejects a result that does not match the tool's output schema.
                return await client.session.send_request(request, TOOL_RESULT_ADAPTER)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            self.end()
            raise ConnectionLostError from error
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                self.end()
                raise ConnectionLostError from error
            if error.code == SESSION_LOST:
                self.end()
                raise SessionLostError(self.describe_error(error)) from error
            raise

    async def _answer_input_requests(
        self, input_required: InputRequiredResult, user: ConnectionUser
    ) -> InputResponses | None:
        input_requests = input_required.input_requests
        if not input_requests:
            await anyio.sleep(EMPTY_INPUT_RETRY_SECONDS)
            return None
        responses: InputResponses = {}

        async def respond_to(key: str, params: ElicitRequestParams) -> None:
            responses[key] = await self._elicit(params, user)

        forms = {
            key: each for key, each in input_requests.items() if isinstance(each, ElicitRequest)
        }
        if len(forms) < len(input_requests):
            raise UnsupportedResponseError("it asks for more than a user can answer")
        async with anyio.create_task_group() as tasks:
            for key, form in forms.items():
                tasks.start_soon(respond_to, key, form.params)
        return responses

    async def _elicit_urls(self, error: MCPError, user: ConnectionUser) -> None:
        """Ask the user to open the URLs that the error of an older server requires.

        Raises:
            MCPError: It is another error, or the user declines.
        """
        if error.code != URL_ELICITATION_REQUIRED:
            raise error
        elicitations = UrlElicitationRequiredError.from_error(error.error).elicitations
        for elicitation in elicitations:
            if (await self._elicit(elicitation, user)).action != "accept":
                raise error

    async def _on_elicitation(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        # A server of the older protocol asks while its call is open, and does not say for which.
        user = self.users.asked()
        if user is None:
            self.on_stderr("(its question was closed: several jobs call it, and it names none)")
            return ElicitResult(action="cancel", _meta={DECLINE_REASON_KEY: NOT_ATTRIBUTED})
        with self._call_timeout.pause(user.job), self.users.question(user):
            return await self._elicit(params, user)
        # Withdrawn: its call is cancelled.
        return ElicitResult(action="cancel")

    async def _elicit(self, params: ElicitRequestParams, user: ConnectionUser) -> ElicitResult:
        return await ask_user(user.listener, self.name, params, self._transport.redactor.redact)

    def redact(self, text: str) -> str:
        return self._transport.redactor.redact(text)

    def redact_result(self, text: str) -> str:
        return self._transport.result_redactor.redact(text)

    def describe_error(self, error: BaseException) -> str:
        """An error for a message to users, without secrets."""
        if isinstance(error, MCPError) and error.code == CONNECTION_CLOSED:
            return "it ended before it was ready"
        if isinstance(error, ValidationError):
            problem = error.errors(include_url=False, include_input=False)[0]
            location = ".".join(str(part) for part in problem["loc"])
            return f"it answers what the protocol does not allow: {location}: {problem['msg']}"
        if isinstance(error, MCPError):
            # The server's own words.
            return self._transport.redactor.redact(error.message.strip().rstrip("."))
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return self._transport.redactor.redact(text.rstrip("."))

    def on_starting(self, command: str, args: tuple[str, ...]) -> None:
        self.users.starting(self.name, command, args)

    def on_stderr(self, line: str) -> None:
        self.users.stderr(self.name, line)

    def on_output(self, text: str) -> None:
        """A server wrote, among its messages, what is none."""
        words = self._transport.redactor.redact(excerpt(text))
        self.users.stderr(self.name, f"(not a message) {words}")

    def _warn(self, problem: str) -> None:
        self.on_stderr(f"({self._transport.redactor.redact(problem)})")

    def _on_tools_changed(self) -> None:
        self.tools_version += 1

    async def _open_with_fallback(self, connecting: contextlib.ExitStack) -> None:
        while True:
            try:
                await self._open(connecting)
            except Exception:
                is_connecting = self._state is ConnectionState.CONNECTING
                fallback = self._transport.fallback() if is_connecting else None
                if fallback is None:
                    raise
                self._transport = fallback
                self._end = anyio.Event()
            else:
                return

    async def _open(self, connecting: contextlib.ExitStack) -> None:
        started_at = anyio.current_time()
        client = Client(
            self._raw_results.streams(self._transport.open(self)),
            mode=self._transport.protocol_mode,
            cache=None,
            elicitation_callback=self._on_elicitation,
            client_info=Implementation(name=f"{self.name}-mcp-client", version="1.0.0"),
        )
        async with client, anyio.create_task_group() as tasks:
            initialized_at = anyio.current_time()
            self._tools = await self._list_tools(client)
            listed_at = anyio.current_time()
            self._client = client
            self._scope.deadline = float("inf")
            connecting.close()
            spawn = self._transport.spawn_seconds
            seconds = {
                "spawn": spawn,
                "handshake": initialized_at - started_at - spawn,
                "toolDiscovery": listed_at - initialized_at,
                "connect": initialized_at - started_at,
                "total": listed_at - started_at,
            }
            self._server_info = _server_info(client)
            self.users.connected(
                self.name,
                self._server_info,
                {phase: round(value * 1000, 3) for phase, value in seconds.items()},
            )
            self._transport.on_ready(is_older=client.session.initialize_result is not None)
            self._set_state(ConnectionState.READY)
            tasks.start_soon(_subscribe_to_changes, client)
            await self._end.wait()
            tasks.cancel_scope.cancel()
            self._set_state(ConnectionState.CLOSING)
            self._scope.deadline = anyio.current_time() + self._timeouts.close_seconds

    def _to_skill_error(self, error: Exception) -> SkillError:
        cause = first_exception(error)
        return (
            cause
            if isinstance(cause, SkillError)
            else self._skill_error(self.describe_error(cause))
        )

    def _finish(self) -> None:
        was_ready = self._state is not ConnectionState.CONNECTING
        self._client = None
        if was_ready:
            self.users.disconnected(self.name)
        elif self.failure is None:
            self.failure = self._skill_error("it ended before it was ready")
        self._set_state(ConnectionState.CLOSED)

    def _set_state(self, state: ConnectionState) -> None:
        self._state = state
        self._state_changed.set()
        self._state_changed = anyio.Event()

    def _start_error(self) -> SkillError:
        """Why the attempt was cancelled."""
        if self._scope.deadline > anyio.current_time():
            return self._skill_error("the job ended")
        seconds = self._timeouts.start_seconds
        return self._skill_error(
            f"it was not ready within {seconds:g} seconds (startTimeout)",
            hint="If it needs longer, as a first start does that downloads, say so in its table: "
            f"startTimeout = {max(120_000, round(seconds * 2000))} (milliseconds).",
        )

    def _skill_error(self, problem: str, hint: str = CHECK_HINT) -> SkillError:
        return SkillError(
            f"Skill {self.name!r} cannot be used: {problem}. {self._transport.failure_details()}",
            skill=self.name,
            hint=hint,
        )


async def _subscribe_to_changes(client: Client) -> None:
    """Have a server of the newer protocol say when its tools change; others do so unasked."""
    tools = client.server_capabilities.tools
    is_modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
    if is_modern and tools is not None and tools.list_changed:
        with contextlib.suppress(MCPError, RuntimeError):
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    pass


def _server_info(client: Client) -> dict[str, Any] | None:
    info = client.server_info
    return None if info is None else {"name": info.name, "version": info.version}
