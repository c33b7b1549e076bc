"""`ModelError`s for failed calls: texts without secrets, and whether a retry may help."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from perstack.errors import CONTEXT_WINDOW_EXCEEDED, ModelError
from perstack.redaction import Redactor

MAX_MESSAGE_CHARACTERS = 500

_STATUS_NAMES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "PaymentRequiredError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "TimeoutError",
    409: "ConflictError",
    413: "RequestTooLargeError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
    504: "GatewayTimeoutError",
    529: "OverloadedError",
}
_FIRST_SERVER_ERROR = 500
# 424 is what a gateway says of a model behind it that has failed.
_RETRYABLE_STATUSES = frozenset({408, 424, 425, 429})
_FINAL_SERVER_STATUSES = frozenset({501, 505})
_NEVER_RETRYABLE_MESSAGE = re.compile(
    r"insufficient_quota|exceeded your current quota", re.IGNORECASE
)
_CONTEXT_WINDOW_MESSAGE = re.compile(
    r"context.?length|context window|(prompt|input) is too long|maximum context", re.IGNORECASE
)
_KEY_LIKE = re.compile(
    r"\b(?:sk|rk|pk|fw|key)[-_][\w*.-]{6,}|\bAIza[\w-]{10,}|\bAKIA\w{10,}|\beyJ[\w-]{8,}\.[\w.-]+"
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[^\s\"']+", re.IGNORECASE)
_NAMED_SECRET = re.compile(
    r"([\w-]*(?:api[-_]?key|token|secret|password|authorization)[\"']?\s*[:=]\s*[\"']?)[^\s\"',&}]+",
    re.IGNORECASE,
)
_LITELLM_PREFIX = re.compile(r"^litellm\.\w+: (?:\w+: )?(?:\w+Exception - )?")
_URL_CREDENTIALS = re.compile(r"(\w+://)[^/\s@]+@")


@dataclass(frozen=True, slots=True)
class HttpErrorResponse:
    """An answer with an error status."""

    status: int
    headers: Mapping[str, str]
    body: str


def response_error(
    response: HttpErrorResponse, *, provider: str, secrets: Iterable[str], now: datetime
) -> ModelError:
    """The error for an answer with an error status."""
    message = message_from_body(response.body) or "no reason given"
    return status_error(
        response.status,
        message,
        provider=provider,
        secrets=secrets,
        retry_after_seconds=retry_after_seconds(response.headers, now),
        is_final=_NEVER_RETRYABLE_MESSAGE.search(response.body) is not None,
    )


def status_error(
    status: int,
    message: str,
    *,
    provider: str,
    secrets: Iterable[str] = (),
    retry_after_seconds: float | None = None,
    is_final: bool = False,
) -> ModelError:
    """The error for a status of the response or of an error event in its stream."""
    is_context = status in {400, 413} and _CONTEXT_WINDOW_MESSAGE.search(message) is not None
    return ModelError(
        sanitize_message(f"{provider} answered {status}: {message}", secrets),
        name=CONTEXT_WINDOW_EXCEEDED if is_context else status_name(status),
        provider=provider,
        status=status,
        is_retryable=not is_context and not is_final and is_retryable(status),
        retry_after_seconds=retry_after_seconds,
    )


def status_name(status: int) -> str:
    """A short stable name for an error status."""
    other = "InternalServerError" if status >= _FIRST_SERVER_ERROR else "ApiError"
    return _STATUS_NAMES.get(status, other)


def is_retryable(status: int) -> bool:
    """Whether the same request may succeed later."""
    is_server_error = status >= _FIRST_SERVER_ERROR and status not in _FINAL_SERVER_STATUSES
    return is_server_error or status in _RETRYABLE_STATUSES


def network_error(
    message: str, *, provider: str, secrets: Iterable[str], is_retryable: bool = True
) -> ModelError:
    """The error for a connection that failed or was lost."""
    return ModelError(
        sanitize_message(message, secrets),
        name="APIConnectionError",
        provider=provider,
        is_retryable=is_retryable,
    )


def timeout_error(seconds: float, *, provider: str) -> ModelError:
    """The error for a generation that took longer than its limit."""
    return ModelError(
        f"{provider} did not finish its reply within {seconds:g} seconds",
        name="TimeoutError",
        provider=provider,
        is_retryable=True,
    )


def invalid_response_error(
    error: BaseException, *, provider: str, secrets: Iterable[str], is_stream: bool
) -> ModelError:
    """The error for an invalid response with a success status, such as an incomplete stream.

    Always retryable, because the provider had accepted the request.
    """
    # Unstreamed, the status is one that litellm made up.
    status = getattr(error, "status_code", None) if is_stream else None
    if isinstance(status, int) and is_retryable(status):
        return status_error(status, _first_line(error), provider=provider, secrets=secrets)
    return ModelError(
        sanitize_message(
            f"{provider} sent a reply that cannot be read: {_first_line(error)}", secrets
        ),
        name="InvalidReplyError",
        provider=provider,
        is_retryable=True,
    )


def request_build_error(
    error: BaseException, *, provider: str, secrets: Iterable[str]
) -> ModelError:
    """The error for a request that could not be built."""
    return ModelError(
        sanitize_message(f"{provider} could not be asked: {_first_line(error)}", secrets),
        name=type(error).__name__,
        provider=provider,
    )


def _first_line(error: BaseException) -> str:
    """The reason, without the class names, body and traceback that litellm adds."""
    lines = str(getattr(error, "message", None) or error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return _LITELLM_PREFIX.sub("", lines[0]).partition(", Original Response")[0]


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long the provider asks us to wait: seconds, milliseconds, or a date."""
    if (milliseconds := _parse_non_negative(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    if (seconds := _parse_non_negative(value)) is not None:
        return seconds
    try:
        retry_at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if retry_at.tzinfo is None:
        retry_at = retry_at.replace(tzinfo=UTC)
    return max(0.0, (retry_at - now).total_seconds())


def _parse_non_negative(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def message_from_body(body: str) -> str:
    """The reason in the body of an error, or the whole body where it has no known form."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return " ".join(body.split())
    return _find_message(value) or " ".join(body.split())


def _find_message(value: Any) -> str | None:
    """The reason inside an error body: `error.message`, `error`, `message` or OAuth's."""
    if isinstance(value, list) and value:
        value = cast("list[Any]", value)[0]
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return None
    body = cast("dict[str, Any]", value)
    # OAuth's `error` is a code, and its description says why.
    message = body.get("error_description") or _find_message(body.get("error"))
    message = message or body.get("message") or body.get("Message") or body.get("detail")
    return message if isinstance(message, str) else None


def sanitize_message(message: str, secrets: Iterable[str]) -> str:
    """The message without secrets, truncated."""
    message = Redactor(secrets, "***").redact(message)
    message = _URL_CREDENTIALS.sub(r"\1***@", message)
    message = _BEARER.sub(r"\1 ***", message)
    message = _NAMED_SECRET.sub(r"\1***", message)
    message = _KEY_LIKE.sub("***", message)
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    return message
