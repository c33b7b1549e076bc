"""What goes wrong between a client and a model, on purpose."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.model_server.gate import Gate
from tests.model_server.reply import Reply


@dataclass(frozen=True)
class HttpError:
    """An answer with an error status.

    Attributes:
        status: HTTP status.
        message: Put into the error body of the request's dialect.
        body: Sent instead of that body: a string as it is, an object as JSON.
        retry_after: Value of the Retry-After header: seconds or an HTTP date.
        headers: Further headers.
    """

    status: int
    message: str = "scripted failure"
    body: str | Mapping[str, Any] | None = None
    retry_after: float | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Cut:
    """The connection ends inside the answer, without a proper end of the body.

    Attributes:
        reply: The answer of which a part is sent.
        after_chunks: Whole stream events that still go out (streamed requests).
        after_bytes: Bytes of the body that still go out; wins over `after_chunks`.
        is_reset: End with a TCP reset instead of an orderly close.
    """

    reply: Reply
    after_chunks: int = 1
    after_bytes: int | None = None
    is_reset: bool = False


@dataclass(frozen=True)
class StreamError:
    """A stream that turns into the provider's error event after some events, under status 200.

    On an unstreamed request it is an HTTP error with the same status.
    """

    reply: Reply
    after_chunks: int = 1
    status: int = 529
    message: str = "scripted failure in the stream"


@dataclass(frozen=True)
class Malformed:
    """Status 200 with a body (or a stream event) that is not JSON."""

    body: str = '{"id": "broken", "choices": [{'


@dataclass(frozen=True)
class Slow:
    """A right answer that takes its time (seconds)."""

    reply: Reply
    before_seconds: float = 0.0
    between_seconds: float = 0.0


@dataclass(frozen=True)
class Held:
    """A right answer that waits until the test opens the gate.

    Attributes:
        gate: What to wait for.
        reply: What follows.
        after_chunks: Stream events that go out before the wait; 0 holds back the headers too.
    """

    gate: Gate
    reply: Reply
    after_chunks: int = 0


@dataclass(frozen=True)
class Hang:
    """No answer until the client leaves or the server stops."""


@dataclass(frozen=True)
class Reset:
    """A TCP reset instead of an answer."""


Fault = HttpError | Cut | StreamError | Malformed | Slow | Held | Hang | Reset
