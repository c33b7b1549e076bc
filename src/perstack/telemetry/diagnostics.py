"""Diagnostics of telemetry on stderr: rate-limited and without secrets."""

import logging
import re
import sys

from perstack.redaction import Redactor

SECONDS_BETWEEN_LINES = 30.0
MAX_LINE_CHARACTERS = 300
URL_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]*@|\?[^\s)'\"]*")


def strip_credentials(text: str) -> str:
    """`text` without user names, passwords and queries of URLs."""
    return URL_CREDENTIALS.sub("", text)


class DiagnosticsHandler(logging.Handler):
    """Writes the SDK's log to stderr, at most one line in `SECONDS_BETWEEN_LINES`."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(logging.WARNING)
        self._redactor = redactor
        self._silent_until = 0.0
        self.is_muted = False

    def emit(self, record: logging.LogRecord) -> None:
        if self.is_muted or record.created < self._silent_until:
            return
        self._silent_until = record.created + SECONDS_BETWEEN_LINES
        self.write_line(record.getMessage())

    def write_line(self, message: str) -> None:
        line = " ".join(strip_credentials(self._redactor.redact(message)).split())
        try:
            sys.stderr.write(f"perstack: telemetry: {line[:MAX_LINE_CHARACTERS]}\n")
        except (OSError, ValueError):
            # A closed stderr is no reason to fail.
            self.is_muted = True


def route_sdk_logging(handler: DiagnosticsHandler, *, is_embedded: bool) -> None:
    """Route the SDK's log to `handler`; embedded, only if the host has configured no logging."""
    logger = logging.getLogger("opentelemetry")
    for former in [item for item in logger.handlers if isinstance(item, DiagnosticsHandler)]:
        logger.removeHandler(former)
        logger.propagate = True
    if is_embedded and logger.hasHandlers():
        return
    logger.addHandler(handler)
    logger.propagate = False
