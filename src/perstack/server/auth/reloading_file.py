"""A file that is parsed again when it has changed."""

import os
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from typing import Generic, TypeVar

from perstack.definition.file_watch import FileStamp
from perstack.errors import ConfigError

LOG = getLogger(__name__)
MAX_BYTES = 1024 * 1024

Content = TypeVar("Content")


class ReloadingFile(Generic[Content]):
    """The parsed content of a file as it is now.

    An edit may revoke access. So while the file is missing or invalid there is no content, rather
    than the previous one; the log says why.

    Args:
        path: The file.
        parse: Parses its bytes; may raise a `ConfigError`.
        check: Checks its permissions first; may raise a `ConfigError`.

    Raises:
        ConfigError: It cannot be read or is invalid.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], Content],
        check: Callable[[os.stat_result], None] | None = None,
    ) -> None:
        self._path = path
        self._parse = parse
        self._check = check
        self._last_error = ""
        self._stamp: FileStamp | None = None
        self._content: Content | None = None
        self._refresh()

    def current(self) -> Content | None:
        """The content; `None` while the file is missing or invalid."""
        try:
            self._refresh()
        except ConfigError as error:
            self._content = None
            if str(error) != self._last_error:
                self._last_error = str(error)
                LOG.error("%s Until it is repaired nobody is let in.", error)  # noqa: TRY400
        return self._content

    def _refresh(self) -> None:
        previous_stamp, self._stamp = self._stamp, None
        try:
            self._stamp = FileStamp.of(self._path.stat())
            if self._stamp == previous_stamp:
                return
            self._content = None
            with self._path.open("rb") as file:
                if self._check is not None:
                    self._check(os.fstat(file.fileno()))
                content = file.read(MAX_BYTES + 1)
            self._content = self._parse(_check_size(content))
        except OSError as error:
            raise ConfigError(
                f"{self._path} cannot be read: {error.strerror}.", hint="Check the path."
            ) from error
        except ConfigError as error:
            raise ConfigError(f"{self._path}: {error.message}", hint=error.hint) from error
        if self._last_error:
            LOG.warning("%s is in order again.", self._path)
            self._last_error = ""


def _check_size(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise ConfigError("it is larger than 1 MiB.")
    return content
