"""What a client wants to read, and where it wants it."""

import json
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """The configuration of one client.

    Attributes:
        text: What belongs into the file, complete as it stands.
        file: The file; a leading `~` is the home folder.
        command: A command of the client that does the same, if it has one.
        link: A link that installs it, if the client knows such links.
        notes: What a person should know besides.
    """

    text: str
    file: str
    command: str | None = None
    link: str | None = None
    notes: tuple[str, ...] = ()


def pretty(document: Json) -> str:
    """A document as people write it."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def compact(document: Json) -> str:
    """A document for links and arguments."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def quoted(text: str) -> str:
    """A string in quotes, as JSON, TOML and YAML all read it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
