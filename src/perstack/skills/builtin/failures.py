"""Failures of tools, with messages that help the model to continue."""

import errno
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

ErrorName = Literal[
    "AccessDenied",
    "AlreadyExists",
    "CommandFailed",
    "CommandNotFound",
    "CommandTimedOut",
    "InvalidArguments",
    "IOError",
    "IsADirectory",
    "NoMatch",
    "NotADirectory",
    "NotEmpty",
    "NotFound",
    "TooLarge",
    "UnknownTool",
    "Unsupported",
]


class ToolFailure(Exception):
    """A tool call that failed; the tool's caller turns it into an error result.

    Args:
        error: Short stable kind.
        message: The problem and, if it is not obvious, what to do instead.
        details: More facts, each a key of the result.
    """

    def __init__(
        self, error: ErrorName, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.error = error
        self.message = message
        self.details = dict(details or {})


@contextmanager
def os_errors_as_failures(noun: str, path: str) -> Generator[None]:
    """Turn errors of the system into failures that name the path as the model wrote it.

    Args:
        noun: What the tool expected there, such as `File`.
        path: As the model wrote it. The path that the system reports may be another one.

    Raises:
        ToolFailure: In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise failure_from_os_error(error, noun, path) from None


def failure_from_os_error(error: OSError, noun: str, path: str) -> ToolFailure:
    match error.errno:
        case errno.ENOENT:
            return ToolFailure("NotFound", f"{noun} {path} does not exist.")
        case errno.ENOTDIR:
            return ToolFailure(
                "NotADirectory", f"Path {path} is not a directory, or a part of it is not one."
            )
        case errno.EEXIST:
            return ToolFailure("AlreadyExists", f"{path} already exists.")
        case errno.ENOTEMPTY:
            return ToolFailure("NotEmpty", f"Directory {path} is not empty.")
        case errno.EACCES | errno.EPERM | errno.EROFS | errno.ETXTBSY:
            return ToolFailure(
                "AccessDenied", f"{noun} {path} is not accessible: {_reason(error)}."
            )
        case errno.EXDEV:
            return ToolFailure(
                "Unsupported", f"{path} is on another file system; copy it with exec instead."
            )
        case _:
            return ToolFailure("IOError", f"{noun} {path}: {_reason(error)}.")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "the system gave no reason"
