"""The events of a job in short: for a reader who wants the whole course of it in one piece."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RunEvent
from perstack.core.wire import to_wire
from perstack.server.reading.documents import as_line

MAX_VALUE_CHARACTERS = 600
MAX_OUTLINE_CHARACTERS = 60_000
REPEATED = frozenset({"checkpoint", "initialCheckpoint", "jobId", "id", "usage"})
"""What other events or the job itself say already."""


def outline(trail: Sequence[tuple[RunEvent, Checkpoint]]) -> str:
    """One event a line, long values cut; of a very long job the beginning and the end."""
    lines = [_line(to_wire(event, checkpoint)) for event, checkpoint in trail]
    room = MAX_OUTLINE_CHARACTERS // 2
    first = _fitting(lines, room)
    last = _fitting(lines[first:][::-1], room)
    left_out = len(lines) - first - last
    if not left_out:
        return "".join(lines)
    note = f"[{left_out} events are left out here]\n"
    return "".join([*lines[:first], note, *lines[len(lines) - last :]])


def _fitting(lines: Sequence[str], room: int) -> int:
    for count, line in enumerate(lines):
        room -= len(line)
        if room < 0:
            return count
    return len(lines)


def _line(wire: Mapping[str, Any]) -> str:
    return as_line({name: _short(part) for name, part in wire.items() if name not in REPEATED})


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
        return f"{value[:MAX_VALUE_CHARACTERS]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {name: _short(part) for name, part in fields.items()}
    if isinstance(value, list):
        return [_short(part) for part in cast("list[Any]", value)]
    return value
