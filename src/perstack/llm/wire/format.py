"""What a wire format has to say, what it gets of a response, and how an exchange fails."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from perstack.core.messages import FinishReason
from perstack.llm.errors import HttpErrorResponse
from perstack.llm.providers.connection import ProviderConnection
from perstack.llm.wire.reply import InvalidReplyError, JsonObject, ReplyBuilder
from perstack.runtime.ports import GenerationRequest


class StreamError(Exception):
    """The provider reports a failure inside of a response with a success status.

    Attributes:
        status: The HTTP status of that failure, if one is told or follows from its type.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionFailedError(Exception):
    """There was no complete response.

    Attributes:
        is_lost: The connection had been established.
        is_retryable: Whether the same request may succeed later.
    """

    def __init__(self, reason: str, *, is_lost: bool = False, is_retryable: bool = True) -> None:
        super().__init__(reason)
        self.is_lost = is_lost
        self.is_retryable = is_retryable


class ErrorStatusError(Exception):
    """The response has a status other than success."""

    def __init__(self, response: HttpErrorResponse) -> None:
        super().__init__(str(response.status))
        self.response = response


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response with a success status, whose body is still to be read."""

    content_type: str
    pieces: AsyncIterator[bytes]


StreamContent = Literal["events", "lines", "frames"]
"""Server-sent events, lines of JSON, or the frames of Amazon's event streams."""


class ReplyReader(Protocol):
    """Reads one reply into a `ReplyBuilder`."""

    def add(self, payload: bytes) -> bool:
        """Read a payload of a stream; `True` if it is the last.

        Raises:
            InvalidReplyError: It cannot be read.
            StreamError: It reports a failure.
        """
        ...

    def add_whole(self, document: JsonObject) -> None:
        """Read a reply that came as one document.

        Raises:
            InvalidReplyError: It cannot be read.
            StreamError: It reports a failure.
        """
        ...


class WireFormat(Protocol):
    """One format in which providers are asked and answer."""

    @property
    def stream_content(self) -> StreamContent:
        """The framing of streams whose content type says nothing."""
        ...

    def url(self, connection: ProviderConnection, *, is_stream: bool) -> str:
        """The address of a request."""
        ...

    def body(
        self, request: GenerationRequest, connection: ProviderConnection, *, is_stream: bool
    ) -> JsonObject:
        """The document to send. Equal input gives equal bytes."""
        ...

    def reader(self, builder: ReplyBuilder) -> ReplyReader:
        """A reader for one reply."""
        ...


CONTEXT_WINDOW_EXCEEDED = "model_context_window_exceeded"


def finish_reason(reason: object, good_ends: Mapping[str, FinishReason]) -> FinishReason:
    """Why a reply ended; Anthropic and Bedrock have the same word for a full context window.

    Raises:
        StreamError: The conversation was too long.
        InvalidReplyError: It is no good end, or none that is known.
    """
    word = str(reason)
    if word == CONTEXT_WINDOW_EXCEEDED:
        raise StreamError("the prompt is too long: the context window is used up", 400)
    if word not in good_ends:
        raise InvalidReplyError(f"it ended with {word[:60]!r}")
    return good_ends[word]
