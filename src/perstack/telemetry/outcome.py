"""How a span is marked as failed: by a kind, never by a message, because messages carry secrets."""

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry.trace import Span, StatusCode

from perstack.errors import ModelError
from perstack.telemetry import semconv


def mark_failed(span: Span, error_type: str) -> None:
    """Sets the status to error and says which kind."""
    span.set_attribute(semconv.ERROR_TYPE, error_type)
    span.set_status(StatusCode.ERROR)


def error_type_of(error: BaseException) -> str:
    """The kind of an exception."""
    if isinstance(error, ModelError):
        return error.name
    # A cancellation has no common base class over the event loops, only a name.
    if not isinstance(error, Exception) and type(error).__name__.startswith("Cancel"):
        return semconv.CANCELLED
    return type(error).__qualname__


@contextmanager
def failing_with(span: Span) -> Generator[None]:
    """Marks `span` by the exception that passes through, if one does."""
    try:
        yield
    except BaseException as error:
        mark_failed(span, error_type_of(error))
        raise
