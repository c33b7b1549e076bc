"""Who decides what the fake model answers."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from tests.model_server.fault import Fault
from tests.model_server.reply import Reply, ToolCall, Verbatim
from tests.model_server.request import DialectName, Request

Action = Reply | Verbatim | Fault
Answer = Callable[[Request], Action]
Step = Action | Answer

_SHOWN_RESULT_CHARACTERS = 300


class ScriptError(AssertionError):
    """A request came for which the script has no answer, or the script itself failed."""


@runtime_checkable
class Script(Protocol):
    """Decides each answer.

    Contract: called on the server's thread, one call at a time, once for each request, in the order
    in which the bodies were complete. May raise; the client then gets status 400, and leaving the
    server's context raises `ScriptError`.
    """

    def decide(self, request: Request) -> Action:
        """What to answer."""
        ...


class Queue:
    """Answers one after the other; a callable in the queue is asked when its turn comes.

    Args:
        steps: The answers.
        then: Asked for every request after the last one; without it such a request is an error.
    """

    def __init__(self, steps: Iterable[Step], then: Step | None = None) -> None:
        self._steps = deque(steps)
        self._then = then

    def decide(self, request: Request) -> Action:
        """Take the next answer."""
        step = self._steps.popleft() if self._steps else self._then
        if step is None:
            message = f"no reply left in the queue for request {request.number}"
            raise ScriptError(message)
        return step(request) if callable(step) else step

    @property
    def left(self) -> int:
        """How many answers were not taken yet."""
        return len(self._steps)


@dataclass(frozen=True)
class Respond:
    """Asks a function of the request."""

    answer: Answer

    def decide(self, request: Request) -> Action:
        """Ask the function."""
        return self.answer(request)


@dataclass(frozen=True)
class Route:
    """A condition and the script behind it; every condition that is given must hold.

    Attributes:
        script: Who answers.
        contains: Text in the system prompt or in the newest user turn.
        system: Text in the system prompt.
        last_user: Text in the newest user turn.
        model: The model's name.
        dialect: The wire format.
    """

    script: Script
    contains: str | None = None
    system: str | None = None
    last_user: str | None = None
    model: str | None = None
    dialect: DialectName | None = None

    def matches(self, request: Request) -> bool:
        """Whether the request belongs to this route."""
        return (
            _is_in(self.contains, request.system, request.last_user_text)
            and _is_in(self.system, request.system)
            and _is_in(self.last_user, request.last_user_text)
            and self.model in (None, request.model)
            and self.dialect in (None, request.dialect)
        )


def route(
    contains: str | None = None,
    *,
    replies: "ScriptLike",
    system: str | None = None,
    last_user: str | None = None,
    model: str | None = None,
    dialect: DialectName | None = None,
) -> Route:
    """A route with a queue (or any script) of its own."""
    return Route(as_script(replies), contains, system, last_user, model, dialect)


class Routes:
    """The first matching route answers, so that concurrent experts do not share a queue."""

    def __init__(self, *routes: Route, otherwise: "ScriptLike | None" = None) -> None:
        self._routes = routes
        self._otherwise = None if otherwise is None else as_script(otherwise)

    def decide(self, request: Request) -> Action:
        """Ask the first matching route."""
        for candidate in self._routes:
            if candidate.matches(request):
                return candidate.script.decide(request)
        if self._otherwise is None:
            message = f"no route for request {request.number}: {request.last_user_text[:200]!r}"
            raise ScriptError(message)
        return self._otherwise.decide(request)


@dataclass(frozen=True)
class CallTool:
    """Calls a tool some times, then reports the last result; keeps no state of its own.

    Attributes:
        pattern: Regular expression, searched in the offered tool names.
        arguments: Arguments of each call.
        times: Calls after the newest user turn, counted by the results in the request.
    """

    pattern: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    times: int = 1

    def decide(self, request: Request) -> Action:
        """Call, or answer `FAKE-DONE:<last result>`, or `FAKE-TEXT` where no result exists."""
        results = request.tool_results
        name = next((name for name in request.tool_names if re.search(self.pattern, name)), None)
        if name is not None and len(results) < self.times:
            return Reply(tool_calls=(ToolCall(name, self.arguments),))
        if not results:
            return Reply("FAKE-TEXT")
        return Reply("FAKE-DONE:" + results[-1].text[:_SHOWN_RESULT_CHARACTERS])


ScriptLike = Script | Iterable[Step] | Answer | Reply


def as_script(source: ScriptLike) -> Script:
    """A script as it is, a function or a single reply for every request, an iterable as a queue."""
    if isinstance(source, Script):
        return source
    if isinstance(source, Reply):
        return Queue([], then=source)
    if callable(source):
        return Respond(source)
    return Queue(source)


def _is_in(wanted: str | None, *texts: str) -> bool:
    return wanted is None or any(wanted in text for text in texts)
