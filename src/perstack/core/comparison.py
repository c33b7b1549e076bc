"""Where two events differ in what they say, apart from when and in which process it was said."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

from perstack.core.events import RunEvent, StartRun
from perstack.core.messages import InstructionMessage

ASIDE = frozenset({"timestamp", "traceParent", "definitionHash"})
"""Fields that say when, where and from which file, not what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value that is not the same.

    Attributes:
        path: Where it is, such as `newMessage.contents.0.text`.
        one: The first value; `None` if there is none.
        other: The second value; `None` if there is none.
    """

    path: str
    one: Any
    other: Any


def event_differences(one: RunEvent, other: RunEvent) -> tuple[Difference, ...]:
    """All values of two events that are not the same."""
    return () if one == other else tuple(differences(plain(one), plain(other)))


def plain(event: RunEvent) -> dict[str, Any]:
    """What an event says, as JSON has it."""
    if isinstance(event, StartRun):
        event = event.model_copy(
            update={"input_messages": tuple(map(_placeless, event.input_messages))}
        )
    document = event.model_dump(mode="json", by_alias=True, exclude_none=True)
    stamp: dict[str, Any] = document.pop("stamp")
    return _without({**document, **stamp})


def _placeless(message: Any) -> Any:
    """An instruction without the time and the folder of the run."""
    if isinstance(message, InstructionMessage):
        return message.model_copy(update={"volatile": ""})
    return message


def _without(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ASIDE}


def differences(one: Any, other: Any, path: str = "") -> Iterator[Difference]:
    """All values of two JSON documents that are not the same, in the order of the first."""
    if isinstance(one, dict) and isinstance(other, dict):
        first, second = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        for name in dict.fromkeys((*first, *second)):
            yield from differences(first.get(name), second.get(name), _below(path, name))
    elif isinstance(one, list) and isinstance(other, list):
        pairs = zip_longest(cast("list[Any]", one), cast("list[Any]", other))
        for position, (left, right) in enumerate(pairs):
            yield from differences(left, right, _below(path, str(position)))
    elif one != other:
        yield Difference(path=path, one=one, other=other)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
