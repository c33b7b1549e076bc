"""The addresses of resources, from `perstack://definitions` to one checkpoint of one job.

An id is looked up and never becomes a path, so that no address reaches anything but what it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from perstack.errors import PerstackError

SCHEME = "perstack://"
MAX_ADDRESS_CHARACTERS = 2048
LARGEST_NUMBER = 10**9

Kind = Literal[
    "definitions", "expert", "jobs", "job", "events", "checkpoints", "checkpoint", "result"
]


class BadAddressError(PerstackError):
    """An address names a resource, but what follows its question mark makes no sense."""

    code = "resource.address"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a resource is.

    Attributes:
        kind: What it is.
        names: The variable parts of its path, such as `job_id`.
        numbers: What follows the question mark, such as `after`.
    """

    kind: Kind
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    numbers: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def uri(self) -> str:
        """As clients write it."""
        names = {name: quote(value, safe="@") for name, value in self.names.items()}
        path = "/".join(part.format(**names) for part in SHAPES[self.kind].path)
        query = f"?{urlencode(self.numbers)}" if self.numbers else ""
        return f"{SCHEME}{path}{query}"


@dataclass(frozen=True, slots=True)
class Shape:
    """How the addresses of one kind are written.

    Attributes:
        path: The parts of the path; a part in braces is a name.
        numbers: What may follow the question mark.
    """

    path: tuple[str, ...]
    numbers: tuple[str, ...] = ()

    @property
    def template(self) -> str:
        """As a URI template of RFC 6570."""
        query = f"{{?{','.join(self.numbers)}}}" if self.numbers else ""
        return f"{SCHEME}{'/'.join(self.path)}{query}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The names in the path."""
        return tuple(part[1:-1] for part in self.path if part.startswith("{"))

    def match(self, parts: tuple[str, ...]) -> dict[str, str] | None:
        """The names in a path, or `None` if it has another shape."""
        if len(parts) != len(self.path):
            return None
        names: dict[str, str] = {}
        for wanted, part in zip(self.path, parts, strict=True):
            if wanted.startswith("{"):
                names[wanted[1:-1]] = part
            elif wanted != part:
                return None
        return names


SHAPES: dict[Kind, Shape] = {
    "definitions": Shape(("definitions",)),
    "expert": Shape(("experts", "{name}")),
    "jobs": Shape(("jobs",), ("offset", "limit")),
    "job": Shape(("jobs", "{job_id}")),
    "events": Shape(("jobs", "{job_id}", "events"), ("after", "limit")),
    "checkpoints": Shape(("jobs", "{job_id}", "checkpoints"), ("after", "limit")),
    "checkpoint": Shape(("jobs", "{job_id}", "checkpoints", "{checkpoint_id}"), ("after",)),
    "result": Shape(("jobs", "{job_id}", "result")),
}


def of_job(kind: Kind, job_id: str, **numbers: int) -> Address:
    """The address of a job, or of what belongs to it."""
    return Address(kind, {"job_id": job_id}, numbers)


def parse(uri: str) -> Address | None:
    """The address that is written as `uri`, or `None` if there can be no such resource.

    Raises:
        BadAddressError: There can be, but a number in it is wrong or unknown.
    """
    if not uri.startswith(SCHEME) or len(uri) > MAX_ADDRESS_CHARACTERS or "#" in uri:
        return None
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    parts = tuple(unquote(part) for part in path.split("/"))
    if not all(part and part.isprintable() for part in parts):
        return None
    for kind, shape in SHAPES.items():
        names = shape.match(parts)
        if names is not None:
            return Address(kind, names, _numbers(query, shape))
    return None


def _numbers(query: str, shape: Shape) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in shape.numbers:
            allowed = " and ".join(shape.numbers) or "nothing"
            raise BadAddressError(
                f"{name[:40]!r} is not part of this address.",
                hint=f"After the question mark it takes {allowed}.",
            )
        # Only what is an ordinary number: str.isdigit also holds for digits of other scripts.
        is_number = value.isascii() and value.isdigit() and int(value[:12]) <= LARGEST_NUMBER
        if not is_number:
            raise BadAddressError(f"{name} is not a number from 0 to {LARGEST_NUMBER}.")
        numbers[name] = int(value)
    return numbers
