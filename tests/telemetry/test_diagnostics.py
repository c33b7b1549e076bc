"""What users hear of telemetry that does not work."""

import logging
from collections.abc import Generator

import pytest

from perstack.redaction import Redactor
from perstack.telemetry.diagnostics import (
    SECONDS_BETWEEN_LINES,
    DiagnosticsHandler,
    route_sdk_logging,
    strip_credentials,
)


@pytest.fixture
def handler() -> DiagnosticsHandler:
    return DiagnosticsHandler(Redactor(["secret-token"]))


@pytest.fixture(autouse=True)
def logger_as_before() -> Generator[None]:
    logger = logging.getLogger("opentelemetry")
    handlers, propagate = list(logger.handlers), logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.propagate = propagate


def a_record(message: str, seconds: float) -> logging.LogRecord:
    record = logging.LogRecord("opentelemetry.x", logging.ERROR, "", 0, message, None, None)
    record.created = seconds
    return record


def test_a_stream_of_errors_becomes_a_line_now_and_then(
    handler: DiagnosticsHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds in (0.0, 1.0, SECONDS_BETWEEN_LINES - 1, SECONDS_BETWEEN_LINES, 31.0):
        handler.handle(a_record(f"failed at {seconds}", seconds))

    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "perstack: telemetry: failed at 0.0",
        "perstack: telemetry: failed at 30.0",
    ]
    assert captured.out == ""


def test_a_line_is_short_and_has_no_secrets(
    handler: DiagnosticsHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    handler.write_line("http://me:pw@host/v1?key=k secret-token\n" + "x" * 1000)

    line = capsys.readouterr().err
    assert line.startswith("perstack: telemetry: http://host/v1 [redacted] xxx")
    assert line.count("\n") == 1
    assert len(line) < 350


def test_credentials_are_taken_out_of_addresses() -> None:
    text = "with url: https://a:b@c.example:1/v1/traces?x=1&y=2 (refused)"

    assert strip_credentials(text) == "with url: https://c.example:1/v1/traces (refused)"


def test_a_host_that_logs_keeps_its_logging(handler: DiagnosticsHandler) -> None:
    logger = logging.getLogger("opentelemetry")
    own = logging.NullHandler()
    logger.addHandler(own)

    route_sdk_logging(handler, is_embedded=True)

    assert handler not in logger.handlers
    assert own in logger.handlers


def test_a_later_engine_replaces_the_handler_of_an_earlier_one(
    handler: DiagnosticsHandler,
) -> None:
    later = DiagnosticsHandler(Redactor())
    logger = logging.getLogger("opentelemetry")

    route_sdk_logging(handler, is_embedded=False)
    route_sdk_logging(later, is_embedded=False)

    assert later in logger.handlers
    assert handler not in logger.handlers
    assert logger.propagate is False
