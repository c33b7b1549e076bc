"""Notices that a definition file may have another content."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells one state of a file from another without reading it.

    Attributes:
        device: Of the file system; with `inode` it is the file itself, so that a link that points
        elsewhere and a file that was put in place of another are seen.
        inode: See `device`.
        size: In bytes.
        modified_ns: When the content was written.
        changed_ns: When anything about it was; an editor may set `modified_ns` back.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def read_stamp(path: Path) -> FileStamp | None:
    """The stamp of the file that a path leads to; `None` if there is none to be seen."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return FileStamp(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


class FileWatch:
    """Compares a file with how it was at the last look, the first of which is now.

    Args:
        path: The file, or a link to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_stamp = read_stamp(path)

    def has_changed(self) -> bool:
        """Whether it is another file or has another content than at the last look."""
        previous, self._last_stamp = self._last_stamp, read_stamp(self._path)
        return self._last_stamp != previous
