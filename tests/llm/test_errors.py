"""Failures of providers in words, without secrets."""

from datetime import UTC, datetime

import pytest

from perstack.llm.errors import (
    MAX_MESSAGE_CHARACTERS,
    HttpErrorResponse,
    invalid_response_error,
    request_build_error,
    response_error,
    retry_after_seconds,
    sanitize_message,
    timeout_error,
)

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
KEY = "kRq83-not-key-like"


@pytest.mark.parametrize(
    ("status", "name", "is_retryable"),
    [
        (400, "BadRequestError", False),
        (401, "AuthenticationError", False),
        (403, "PermissionDeniedError", False),
        (404, "NotFoundError", False),
        (413, "RequestTooLargeError", False),
        (418, "ApiError", False),
        (429, "RateLimitError", True),
        (500, "InternalServerError", True),
        (502, "BadGatewayError", True),
        (503, "ServiceUnavailableError", True),
        (504, "GatewayTimeoutError", True),
        (529, "OverloadedError", True),
    ],
)
def test_a_status_decides_the_name_and_whether_to_try_again(
    status: int, name: str, is_retryable: bool
) -> None:
    failure = HttpErrorResponse(status, {}, '{"error": {"message": "no"}}')

    error = response_error(failure, provider="openai", secrets=(), now=NOW)

    assert (error.name, error.status, error.is_retryable) == (name, status, is_retryable)
    assert str(error) == f"openai answered {status}: no"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"type": "error", "error": {"type": "x", "message": "too much"}}', "too much"),
        ('{"error": "model not found"}', "model not found"),
        ('[{"error": {"message": "in a list"}}]', "in a list"),
        ('{"message": "plain"}', "plain"),
        ("<html>\n  Bad\n  gateway</html>", "<html> Bad gateway</html>"),
        ('{"odd": 1}', '{"odd": 1}'),
        ("[" * 5000, "[["),
        ("", "no reason given"),
    ],
)
def test_the_reason_is_taken_from_the_body(body: str, words: str) -> None:
    error = response_error(HttpErrorResponse(400, {}, body), provider="openai", secrets=(), now=NOW)

    assert str(error).startswith(f"openai answered 400: {words}")


@pytest.mark.parametrize(
    ("status", "is_retryable"),
    [
        *((status, False) for status in (400, 404, 501, 505)),
        *((status, True) for status in (408, 429, 500, 520, 524, 529, 530, 599)),
    ],
)
def test_the_status_and_not_the_words_decides_whether_to_try_again(
    status: int, is_retryable: bool
) -> None:
    failure = HttpErrorResponse(status, {}, '{"error": {"message": "The engine is overloaded"}}')

    error = response_error(failure, provider="openai", secrets=(), now=NOW)
    assert error.is_retryable is is_retryable


def test_a_quota_that_is_used_up_is_final() -> None:
    body = '{"error": {"message": "You exceeded it.", "code": "insufficient_quota"}}'

    error = response_error(HttpErrorResponse(429, {}, body), provider="openai", secrets=(), now=NOW)

    assert not error.is_retryable


def test_a_conversation_that_is_too_long_has_a_name_of_its_own() -> None:
    body = '{"error": {"message": "prompt is too long: 210000 tokens"}}'

    error = response_error(
        HttpErrorResponse(400, {}, body), provider="anthropic", secrets=(), now=NOW
    )

    assert (error.name, error.is_retryable) == ("ContextWindowExceededError", False)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        "sk-ant-api03-abcdefgh",
        "Bearer abc.def-ghi",
        "https://user:pa55word@proxy.example",
        "AIzaSyA1234567890abcdef",
        "AKIAABCDEFGHIJKLMNOP",
        'api_key="hunter2"',
        "x-api-key: hunter2",
    ],
)
def test_no_message_holds_a_secret(secret: str) -> None:
    message = sanitize_message(f"failed with {secret} here", (KEY,))

    assert secret not in message
    for part in ("abcdef", "hunter2", "pa55word", "abc.def", KEY):
        assert part not in message
    assert message.endswith("here")


def test_a_message_is_cut() -> None:
    message = sanitize_message("x" * 10_000, ())

    assert len(message) == MAX_MESSAGE_CHARACTERS


def test_a_key_is_removed_before_the_message_is_cut() -> None:
    message = sanitize_message("x" * (MAX_MESSAGE_CHARACTERS - 8) + KEY, (KEY,))

    assert KEY[:6] not in message


def test_a_reply_that_cannot_be_read_is_worth_another_try() -> None:
    error = invalid_response_error(
        ValueError("litellm.APIError: odd\nTraceback: /a/path"),
        provider="openai",
        secrets=(),
        is_stream=False,
    )

    assert (error.name, error.is_retryable) == ("InvalidReplyError", True)
    assert str(error) == "openai sent a reply that cannot be read: odd"


def test_a_request_that_cannot_be_put_together_is_final() -> None:
    error = request_build_error(ValueError("no such option"), provider="openai", secrets=())

    assert (error.name, error.is_retryable, error.status) == ("ValueError", False, None)


def test_a_timeout_is_worth_another_try() -> None:
    error = timeout_error(1.5, provider="openai")

    assert (error.name, error.is_retryable) == ("TimeoutError", True)
    assert "1.5 seconds" in str(error)
