"""What users hear of telemetry that does not work: little, on stderr, without secrets."""

import logging
import re
import sys

from perstack.core.redaction import Redactor

SECONDS_BETWEEN_LINES = 30.0
LONGEST_LINE = 300
USER_AND_QUERY = re.compile(r"(?<=//)[^/@\s]*@|\?[^\s)'\"]*")


def without_credentials(text: str) -> str:
    """`text` without the user names, passwords and queries of the URLs in it."""
    return USER_AND_QUERY.sub("", text)


class DiagnosticsHandler(logging.Handler):
    """Writes what the SDK logs to stderr, at most one line in `SECONDS_BETWEEN_LINES`.

    Args:
        redactor: Knows the secrets.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(logging.WARNING)
        self._redactor = redactor
        self._silent_until = 0.0
        self.is_muted = False

    def emit(self, record: logging.LogRecord) -> None:
        if self.is_muted or record.created < self._silent_until:
            return
        self._silent_until = record.created + SECONDS_BETWEEN_LINES
        self.say(record.getMessage())

    def say(self, message: str) -> None:
        """Write one line."""
        line = " ".join(without_credentials(self._redactor.text(message)).split())
        try:
            sys.stderr.write(f"perstack: telemetry: {line[:LONGEST_LINE]}\n")
        except (OSError, ValueError):
            # Nobody reads stderr any more, and that is no reason to fail.
            self.is_muted = True


def take_over_logging(handler: DiagnosticsHandler, *, is_guest: bool) -> None:
    """Route the SDK's log through `handler`; as a guest only if the host has no logging itself."""
    logger = logging.getLogger("opentelemetry")
    for former in [item for item in logger.handlers if isinstance(item, DiagnosticsHandler)]:
        logger.removeHandler(former)
        logger.propagate = True
    if is_guest and logger.hasHandlers():
        return
    logger.addHandler(handler)
    logger.propagate = False
