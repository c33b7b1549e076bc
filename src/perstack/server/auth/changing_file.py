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
Stamp = tuple[int, ...]


class ChangingFile(Generic[Content]):
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
        self._stamp: Stamp | None = None
        self._content: Content | None = None
        self._complaint = ""

    def open(self) -> None:
        """Read it for the first time.

        Raises:
            ConfigError: It cannot be read or accepted.
        """
        self._stamp = self._look()
        self._content = self._read()

    def present(self) -> Content | None:
        """What it says; `None` while it says nothing that can be used."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp, self._content = stamp, None
                self._content = self._read()
                if self._complaint:
                    LOG.warning("%s is in order again.", self.path)
                self._complaint = ""
        except ConfigError as error:
            self._content = None
            if str(error) != self._complaint:
                self._complaint = str(error)
                LOG.error("%s Until it is repaired nobody is let in.", error)  # noqa: TRY400
        return self._content

    def _look(self) -> Stamp:
        try:
            return _stamp(self.path.stat())
        except OSError as error:
            self._stamp = None
            raise self._unreadable(error) from error

    def _read(self) -> Content:
        try:
            with self.path.open("rb") as file:
                if self._check is not None:
                    self._check(os.fstat(file.fileno()))
                content = file.read(MAX_BYTES + 1)
            return self._parse(_bounded(content))
        except OSError as error:
            raise self._unreadable(error) from error
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error.message}", hint=error.hint) from error

    def _unreadable(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self.path} cannot be read: {error.strerror}.", hint="Check the path.")


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise ConfigError("it is larger than 1 MiB.")
    return content


def _stamp(found: os.stat_result) -> Stamp:
    # Rights and owner are repaired without an edit; the clock of the file system may be coarse.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode
