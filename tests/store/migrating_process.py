"""A process that is killed while it brings a store to the present version.

Takes the store's path, and how many statements of the migration it is to live for.
"""

import os
import signal
import sqlite3
import sys
from pathlib import Path

from perstack.store import connection, migrations


class Dying(sqlite3.Connection):
    left = 0

    def execute(self, *arguments: object) -> sqlite3.Cursor:
        if self.in_transaction:
            if Dying.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            Dying.left -= 1
        return super().execute(*arguments)  # pyright: ignore[reportArgumentType] - passed on as they came


if __name__ == "__main__":
    path = Path(sys.argv[1])
    Dying.left = int(sys.argv[2])
    connection.prepare_folder(path.parent)
    opened = sqlite3.connect(path, isolation_level=None, factory=Dying)
    opened.execute("PRAGMA journal_mode = WAL")
    migrations.migrate(opened, path)
    sys.stdout.write("migrated\n")
