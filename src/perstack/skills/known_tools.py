"""What servers with `lazyInit` offered when they were last started, so that they need not be."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import anyio.to_thread
from pydantic import TypeAdapter, ValidationError

from perstack.core.tools import ToolDefinition
from perstack.skills.server_command import ServerCommand, ServerSpec

Stamp = tuple[str, ...]
Tools = tuple[ToolDefinition, ...]


@dataclass(frozen=True, slots=True)
class _Listing:
    stamp: Stamp
    tools: Tools


class KnownTools:
    """The last listing of each server, by its definition and the files that its command names.

    Args:
        folder: Where listings outlive the engine, created when needed; `None` keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._listings: dict[str, _Listing | None] = {}
        self._stamps: dict[str, Stamp] = {}

    async def get(self, server: ServerSpec, command: ServerCommand) -> Tools | None:
        """The tools of a server, if they were listed since its program changed."""
        stamp = await anyio.to_thread.run_sync(_stamp, command)
        identity = server.identity
        self._stamps[identity] = stamp
        if identity not in self._listings:
            self._listings[identity] = await anyio.to_thread.run_sync(self._read, identity)
        listing = self._listings[identity]
        return listing.tools if listing is not None and listing.stamp == stamp else None

    async def put(self, server: ServerSpec, tools: Tools, redact: Callable[[str], str]) -> bool:
        """Keep the tools that a server has listed; returns whether they differ from those known."""
        identity = server.identity
        known = self._listings.get(identity)
        stamp = self._stamps.get(identity, ())
        if known is not None and known.stamp == stamp and known.tools == tools:
            return False
        listing = self._listings[identity] = _Listing(stamp, tools)
        text = redact(_listing_adapter().dump_json(listing).decode())
        await anyio.to_thread.run_sync(self._write, identity, text)
        return known is None or known.tools != tools

    def _file(self, folder: Path, identity: str) -> Path:
        return folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"

    def _read(self, identity: str) -> _Listing | None:
        if self._folder is None:
            return None
        try:
            return _listing_adapter().validate_json(self._file(self._folder, identity).read_bytes())
        except (OSError, ValidationError):
            return None

    def _write(self, identity: str, text: str) -> None:
        if self._folder is None:
            return
        file = self._file(self._folder, identity)
        draft = file.with_suffix(f".{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, encoding="utf-8")
            draft.replace(file)
        except OSError:
            # Another engine starts the server once more, and that is all.
            with contextlib.suppress(OSError):
                draft.unlink()


def _stamp(command: ServerCommand) -> Stamp:
    """What changes when a file that a command names does."""
    words = (command.program, *command.args)
    return tuple(each for word in words for each in _file_facts(command.workspace / word))


def _file_facts(path: Path) -> Stamp:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ()
    return (str(path), str(status.st_mtime_ns), str(status.st_size)) if path.is_file() else ()


@cache
def _listing_adapter() -> TypeAdapter[_Listing]:
    return TypeAdapter(_Listing)
