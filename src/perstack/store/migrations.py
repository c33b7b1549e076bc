"""The tables, and how a store of an older version becomes one of this version."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from perstack.errors import StoreError


def m001_events_and_their_projection(connection: sqlite3.Connection) -> None:
    """Events, who may write them, and the summary of each job."""
    for statement in _M001:
        connection.execute(statement)


_M001 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE leases (
        job_id TEXT PRIMARY KEY,
        owner TEXT,
        lease_until INTEGER NOT NULL,
        fence INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE jobs (
        ref INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        status TEXT NOT NULL,
        coordinator_expert_key TEXT NOT NULL,
        query TEXT NOT NULL,
        total_steps INTEGER NOT NULL,
        usage TEXT NOT NULL,
        run_count INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        finished_at INTEGER,
        root_run_id TEXT NOT NULL
    )
    """,
    "CREATE INDEX jobs_by_start ON jobs (started_at, ref)",
    """
    CREATE TABLE runs (
        ref INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        job INTEGER NOT NULL REFERENCES jobs (ref),
        expert_key TEXT NOT NULL,
        is_root INTEGER NOT NULL
    )
    """,
    "CREATE INDEX runs_by_job ON runs (job)",
    # AUTOINCREMENT, so that a position once given to a reader never means another event.
    """
    CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES runs (ref),
        sequence INTEGER NOT NULL,
        type TEXT NOT NULL,
        step_number INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        body TEXT,
        UNIQUE (run, sequence)
    )
    """,
    "CREATE TABLE blobs (sha256 TEXT PRIMARY KEY, bytes BLOB NOT NULL)",
)


def m002_requests_to_stop(connection: sqlite3.Connection) -> None:
    """What other processes ask of the driver of a job."""
    connection.execute("ALTER TABLE leases ADD COLUMN stop_reason TEXT")
    connection.execute(
        "CREATE INDEX leases_to_stop ON leases (owner) WHERE stop_reason IS NOT NULL"
    )


def m003_takeovers(connection: sqlite3.Connection) -> None:
    """How often in a row the driver of a job has died at work."""
    connection.execute("ALTER TABLE leases ADD COLUMN takeovers INTEGER NOT NULL DEFAULT 0")


def m004_tasks(connection: sqlite3.Connection) -> None:
    """Tasks that clients poll, with the final status of those that have one."""
    connection.execute(
        """
        CREATE TABLE tasks (
            id TEXT PRIMARY KEY,
            job_id TEXT NOT NULL,
            activation INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            status TEXT,
            payload TEXT
        )
        """
    )
    connection.execute("CREATE INDEX tasks_by_job ON tasks (job_id)")


def m005_requests(connection: sqlite3.Connection) -> None:
    """Accepted requests whose first event is not written yet."""
    connection.execute(
        """
        CREATE TABLE requests (
            job_id TEXT PRIMARY KEY,
            request TEXT NOT NULL,
            created_at INTEGER NOT NULL
        ) WITHOUT ROWID
        """
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_events_and_their_projection,
    m002_requests_to_stop,
    m003_takeovers,
    m004_tasks,
    m005_requests,
)
SCHEMA_VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the store to this version, in one transaction.

    Raises:
        StoreError: A newer version of perstack made it, or it is a database of something else.
    """
    if _read_version(connection, path) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again, because another process may have been faster.
        for migration in MIGRATIONS[_read_version(connection, path) :]:
            migration(connection)
        connection.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES ('schema_version', ?)",
            (SCHEMA_VERSION,),
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _read_version(connection: sqlite3.Connection, path: Path) -> int:
    names = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not names:
        return 0
    if "meta" not in names or "leases" not in names:
        raise StoreError(
            f"{path} is a database, but not a perstack store.",
            hint="Move it elsewhere; a new store is made in its place.",
        )
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    version = int(row[0]) if row else 0
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}; this perstack knows up to {SCHEMA_VERSION}.",
            hint="Update perstack, or choose another workspace.",
        )
    return version
