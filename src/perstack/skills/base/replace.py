"""Replacing a file at once: readers see the old content or the new one, also after a crash."""

import os
import secrets
from contextlib import suppress

from perstack.skills.base.failure import ToolFailure
from perstack.skills.workspace import Entry

NEW_FILE_MODE = 0o644


def replace_file(entry: Entry, data: bytes) -> None:
    """Give a file this content; make it if it is not there. Its mode is kept.

    Raises:
        ToolFailure: Something else than a writable regular file is there.
        OSError: The folder cannot be written, or the disk is full; the file is as it was.
    """
    mode = _mode_of_writable(entry)
    # In the same folder, because only within one file system does a rename replace at once.
    temporary = f".{entry.name[:60]}.{secrets.token_hex(6)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, NEW_FILE_MODE, dir_fd=entry.folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(handle, mode)
        os.rename(temporary, entry.name, src_dir_fd=entry.folder, dst_dir_fd=entry.folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=entry.folder)
        raise


def _mode_of_writable(entry: Entry) -> int | None:
    """The mode of the file; `None` if there is none yet. A rename alone would not ask for leave."""
    try:
        with entry.open(os.O_WRONLY) as handle:
            return os.fstat(handle).st_mode & 0o7777
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ToolFailure("AccessDenied", f"File {entry.path} is not writable") from None
