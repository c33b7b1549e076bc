"""Detects that a file may have changed, without reading it."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Tells one state of a file from another.

    Attributes:
        device: With `inode`, the identity of the file: a link with another target and a file that
        replaces another are detected.
        inode: See `device`.
        mode: Permissions can be repaired without an edit.
        size: In bytes.
        modified_ns: Time of the last write.
        changed_ns: Time of the last change of content or metadata; editors may reset `modified_ns`.
    """

    device: int
    inode: int
    mode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileStamp":
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )


def read_stamp(path: Path) -> FileStamp | None:
    """The stamp of a file or of the target of a link; `None` if there is no file."""
    try:
        return FileStamp.of(path.stat())
    except (OSError, ValueError):
        return None


class FileWatch:
    """Compares a file, or the target of a link, with its state at the previous check."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_stamp = read_stamp(path)

    def has_changed(self) -> bool:
        """Whether the file may have changed since the previous call, or since construction."""
        previous, self._last_stamp = self._last_stamp, read_stamp(self._path)
        return self._last_stamp != previous
