"""Connections to a store's file, and its failures as messages for the user."""

import sqlite3
import time
from pathlib import Path

from perstack.errors import StoreError
from perstack.store.migrations import migrate

BUSY_SECONDS = 10.0
BUSY_ATTEMPTS = 3
# Two events of one or two kilobytes fit on a page of 8 KiB with little waste, on the usual 4 KiB
# with much; larger pages cost more log a commit than they save.
PAGE_BYTES = 8192
WAL_PAGES = 512
SQLITE_MAGIC = b"SQLite format 3\x00"

UNWRITABLE = (
    "{path} cannot be opened for writing.",
    "Make the folder writable, or choose another workspace.",
)
FAILURES: dict[str, tuple[str, str]] = {
    "SQLITE_FULL": (
        "The disk that holds {path} is full; nothing was written.",
        "Free some space, then continue the job.",
    ),
    "SQLITE_READONLY": UNWRITABLE,
    "SQLITE_CANTOPEN": UNWRITABLE,
    "SQLITE_PERM": UNWRITABLE,
    "SQLITE_NOTADB": (
        "{path} is not a perstack store.",
        "Move the file elsewhere; a new store is made in its place.",
    ),
    "SQLITE_CORRUPT": (
        "{path} is damaged.",
        "Restore it from a backup, or move it elsewhere to begin with a new store.",
    ),
    "SQLITE_BUSY": (
        "{path} is kept busy by another process.",
        "Try again when that process is done writing.",
    ),
    "SQLITE_IOERR": (
        "{path} cannot be read or written: the disk reports an error; nothing was written.",
        "Check the free space, the limits and the health of that disk, then continue the job.",
    ),
    "SQLITE_CONSTRAINT": (
        "{path} holds something that contradicts this write; nothing was written.",
        "Load the job again before you go on with it.",
    ),
    "SQLITE_TOOBIG": (
        "An event is too large for {path}; nothing was written.",
        "Let the tool return less at once.",
    ),
}
UNKNOWN_FAILURE = ("{path} cannot be used: {error}.", "Check the file and its folder.")


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """The failure as an error for the user."""
    # Programming errors of the module bring no code. Extended codes begin with the primary one.
    code = getattr(error, "sqlite_errorname", "")
    texts = (text for name, text in FAILURES.items() if code.startswith(name))
    message, hint = next(texts, UNKNOWN_FAILURE)
    return StoreError(message.format(path=path, error=error), hint=hint)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds the lock that was needed."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def open_connections(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """A connection for writing and one for reading; folder, file and tables are made if missing.

    Raises:
        StoreError: The store cannot be opened.
    """
    prepare_folder(path.parent)
    _check_file_header(path)
    writing: sqlite3.Connection | None = None
    try:
        writing = _connect(path)
        writing.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        _switch_to_wal(writing)
        writing.execute("PRAGMA synchronous = FULL")
        writing.execute("PRAGMA foreign_keys = ON")
        writing.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        writing.execute(f"PRAGMA journal_size_limit = {WAL_PAGES * PAGE_BYTES}")
        migrate(writing, path)
        return writing, _connect(path)
    except (sqlite3.Error, StoreError) as error:
        if writing is not None:
            writing.close()
        raise store_error(error, path) if isinstance(error, sqlite3.Error) else error from error


def prepare_folder(folder: Path) -> None:
    """Make the folder, for this user only and unseen by git; one that has content is left as it is.

    Raises:
        StoreError: It cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"The folder {folder} for the store cannot be used: {error.strerror}.",
            hint="Make its place writable, or choose another workspace.",
        ) from error


def _check_file_header(path: Path) -> None:
    # SQLite itself takes a file of a few bytes for an empty database and overwrites it.
    try:
        with path.open("rb") as file:
            header = file.read(len(SQLITE_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        message, hint = UNWRITABLE
        raise StoreError(message.format(path=path), hint=hint) from error
    if header not in {b"", SQLITE_MAGIC}:
        message, hint = FAILURES["SQLITE_NOTADB"]
        raise StoreError(message.format(path=path), hint=hint)


def begin_immediate(connection: sqlite3.Connection) -> None:
    """Begin to write, waiting for other processes that do.

    Raises:
        sqlite3.Error: They did not finish in time, or the file cannot be written.
    """
    for attempt in range(1, BUSY_ATTEMPTS + 1):
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or attempt == BUSY_ATTEMPTS:
                raise


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun by hand, and threads take turns by construction of the store.
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite's busy timeout does not apply when two processes switch at once.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
