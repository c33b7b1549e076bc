"""Which commands start servers that know only the older handshake, remembered on this machine.

Some of them ignore the first message of the newer protocol, others end at it; to find that out
again costs each job seconds or another start.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

MAX_REMEMBERED = 500


class OlderHandshakes:
    """A file that can be lost at any time: what it says is only what is tried first.

    Args:
        file: Where it is; `None` to remember nothing.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file

    @classmethod
    def of_user(cls, environment: Mapping[str, str]) -> "OlderHandshakes":
        """The file in the cache folder of the user, if there is one."""
        cache, home = environment.get("XDG_CACHE_HOME"), environment.get("HOME")
        folder = Path(cache) if cache else Path(home) / ".cache" if home else None
        return cls(folder / "perstack" / "older-handshakes.json" if folder else None)

    def includes(self, identity: str) -> bool:
        """Whether the server of this command is known to need the older handshake."""
        return _key(identity) in self._read()

    def add(self, identity: str) -> None:
        """Remember a server; a file that cannot be written is no error."""
        self._write([each for each in self._read() if each != _key(identity)] + [_key(identity)])

    def remove(self, identity: str) -> None:
        """Forget a server, which may speak the newer protocol now."""
        self._write([each for each in self._read() if each != _key(identity)])

    def _read(self) -> list[str]:
        if self._file is None:
            return []
        try:
            keys: object = json.loads(self._file.read_bytes())
        except (OSError, ValueError, RecursionError):
            return []
        if not isinstance(keys, list):
            return []
        return [each for each in cast("list[object]", keys) if isinstance(each, str)]

    def _write(self, keys: list[str]) -> None:
        if self._file is None:
            return
        # Another process may write at the same time: one of both is forgotten, nothing is broken.
        draft = self._file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(keys[-MAX_REMEMBERED:]), encoding="utf-8")
            draft.replace(self._file)


def _key(identity: str) -> str:
    # A command line may hold secrets.
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
