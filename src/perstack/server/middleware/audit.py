"""The audit log: one line for each request with its caller, method, target and outcome.

It never contains arguments, results or tokens.
"""

import json
import logging
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, cast

import anyio
from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError

from perstack.errors import ConfigError
from perstack.runtime.ports import SystemClock
from perstack.server.caller import RequestContext, caller_of

LOG = logging.getLogger(__name__)
AUDIT = logging.getLogger("perstack.audit")
MAX_FIELD_CHARACTERS = 200
UNAUDITED_METHODS = frozenset({"ping", "server/discover"})


class AuditMiddleware:
    """Writes a line to the audit log for each request."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        is_audited = ctx.request_id is not None and ctx.method not in UNAUDITED_METHODS
        if not is_audited or not AUDIT.isEnabledFor(logging.INFO):
            return await call_next(ctx)
        received_at_ms, started_at = self._clock.now_ms(), anyio.current_time()
        outcome, result = "cancelled", None
        try:
            result = await call_next(ctx)
            outcome = "error" if _as_mapping(result).get("isError") else "ok"
        except MCPError:
            outcome = "refused"
            raise
        except Exception:
            outcome = "error"
            raise
        finally:
            received_at = datetime.fromtimestamp(received_at_ms / 1000, UTC)
            line = {
                "time": received_at.isoformat(timespec="milliseconds"),
                **_audit_fields(ctx, _as_mapping(result)),
                "outcome": outcome,
                "ms": round((anyio.current_time() - started_at) * 1000),
            }
            AUDIT.info("%s", json.dumps(line, ensure_ascii=False))
        return result


@contextmanager
def configure_audit_log(path: Path | None) -> Generator[None]:
    """Write the audit log to a file, or to stderr, within the context.

    A file that is moved away, as by log rotation, is created again.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        handler = logging.StreamHandler(sys.stderr) if path is None else _AuditFileHandler(path)
    except OSError as error:
        raise ConfigError(
            f"The audit file {path} cannot be written: {error.strerror}.",
            hint="Name another with --audit.",
        ) from error
    handler.setFormatter(logging.Formatter("%(message)s"))
    previous = AUDIT.level, AUDIT.propagate
    AUDIT.addHandler(handler)
    AUDIT.setLevel(logging.INFO)
    AUDIT.propagate = False
    try:
        yield
    finally:
        AUDIT.removeHandler(handler)
        AUDIT.setLevel(previous[0])
        AUDIT.propagate = previous[1]
        handler.close()


class _AuditFileHandler(WatchedFileHandler):
    """A log file that only its owner can read, also after rotation.

    While it cannot be written, requests are still answered; the log says so once.
    """

    def __init__(self, path: Path) -> None:
        self._is_writable = True
        super().__init__(path, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        file = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(file, "a", encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        was_writable, self._is_writable = self._is_writable, True
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)
        if was_writable and not self._is_writable:
            LOG.error("perstack: the audit file %s cannot be written.", self.baseFilename)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as inherited
        """Note that a line was lost."""
        self._is_writable = False


def _audit_fields(context: RequestContext, result: Mapping[str, Any]) -> dict[str, str]:
    caller, params = caller_of(context), _as_mapping(context.params)
    job_id = (
        _as_mapping(result.get("structuredContent")).get("job_id")
        or _as_mapping(params.get("arguments")).get("job_id")
        or result.get("taskId")
    )
    fields = {
        "principal": caller.principal,
        "client": caller.client_name,
        "method": context.method,
        "target": params.get("name") or params.get("uri") or params.get("taskId"),
        "job_id": job_id,
    }
    return {
        name: value[:MAX_FIELD_CHARACTERS]
        for name, value in fields.items()
        if isinstance(value, str)
    }


def _as_mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
