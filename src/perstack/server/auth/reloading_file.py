"""A file that is read again when it has changed."""

import os
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from typing import Generic, TypeVar

from perstack.errors import ConfigError

LOG = getLogger(__name__)
MAX_BYTES = 1024 * 1024

Content = TypeVar("Content")
FileStamp = tuple[int, ...]


class ReloadingFile(Generic[Content]):
    """What a file says, as it stands now.

    Whoever edits the file may want to lock someone out. So while it is missing or cannot be
    accepted it says nothing, rather than what it said before; the log tells why.

    Args:
        path: The file.
        parse: Makes something of its bytes, or raises a `ConfigError`.
        check: Looks at the file's permissions first, and may raise a `ConfigError`.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], Content],
        check: Callable[[os.stat_result], None] | None = None,
    ) -> None:
        self.path = path
        self._parse = parse
        self._check = check
        self._stamp: FileStamp | None = None
        self._content: Content | None = None
        self._last_error = ""

    def open(self) -> None:
        """Read it for the first time.

        Raises:
            ConfigError: It cannot be read or accepted.
        """
        self._stamp = self._read_stamp()
        self._content = self._read()

    def current(self) -> Content | None:
        """What it says; `None` while it says nothing that can be used."""
        try:
            stamp = self._read_stamp()
            if stamp != self._stamp:
                self._stamp, self._content = stamp, None
                self._content = self._read()
                if self._last_error:
                    LOG.warning("%s is in order again.", self.path)
                self._last_error = ""
        except ConfigError as error:
            self._content = None
            if str(error) != self._last_error:
                self._last_error = str(error)
                LOG.error("%s Until it is repaired nobody is let in.", error)  # noqa: TRY400
        return self._content

    def _read_stamp(self) -> FileStamp:
        try:
            return _stamp_of(self.path.stat())
        except OSError as error:
            self._stamp = None
            raise self._unreadable_error(error) from error

    def _read(self) -> Content:
        try:
            with self.path.open("rb") as file:
                if self._check is not None:
                    self._check(os.fstat(file.fileno()))
                content = file.read(MAX_BYTES + 1)
            return self._parse(_check_size(content))
        except OSError as error:
            raise self._unreadable_error(error) from error
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error.message}", hint=error.hint) from error

    def _unreadable_error(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self.path} cannot be read: {error.strerror}.", hint="Check the path.")


def _check_size(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise ConfigError("it is larger than 1 MiB.")
    return content


def _stamp_of(file_stat: os.stat_result) -> FileStamp:
    # Rights and owner are repaired without an edit; the clock of the file system may be coarse.
    return (
        file_stat.st_mtime_ns,
        file_stat.st_ctime_ns,
        file_stat.st_size,
        file_stat.st_ino,
        file_stat.st_mode,
    )
