"""The pictures that experts declare: looked at, and read where they are files.

Clients are given a picture as part of a list and fetch nothing from this machine, so a file becomes
a data: URI. A picture that cannot be used is worth a warning and keeps no expert from working.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from pathlib import Path

from perstack.definition.expert_tool import ExpertTool
from perstack.definition.model import Expert
from perstack.definition.problems import Finding

MAX_BYTES = 32 * 1024

_KINDS: dict[str, Callable[[bytes], bool]] = {
    "image/png": lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": lambda content: content.startswith(b"\xff\xd8\xff"),
    "image/webp": lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP",
    "image/svg+xml": lambda content: b"<svg" in content[:1024],
}
_KNOWN = "it must be PNG, SVG, JPEG or WebP"
_DATA = re.compile(r"data:([\w/.+-]+);base64,([A-Za-z0-9+/=]+)")
_HTTPS = re.compile(r"https://[^\s/?#@]+(/[^\s]*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class _UnusableError(Exception):
    """A picture cannot be used; the text is the end of a sentence about its key."""


def with_pictures(
    experts: dict[str, Expert], folder: Path
) -> tuple[dict[str, Expert], list[Finding]]:
    """The experts with pictures that can be sent, and what is wrong with those that cannot.

    Args:
        experts: As the file declares them, by key.
        folder: Where paths begin.
    """
    findings: list[Finding] = []
    pictured: dict[str, Expert] = {}
    for key, expert in experts.items():
        picture = None
        if expert.tool.icon is not None:
            try:
                picture = _picture(expert.tool.icon, folder)
            except _UnusableError as error:
                at = ("experts", key, "tool", "icon")
                findings.append(Finding(at, str(error), "a simple one is drawn instead"))
        pictured[key] = expert if picture == expert.tool.icon else _showing(expert, picture)
    return pictured, findings


def _showing(expert: Expert, picture: str | None) -> Expert:
    tool: ExpertTool = expert.tool.model_copy(update={"icon": picture})
    return expert.model_copy(update={"tool": tool})


def _picture(written: str, folder: Path) -> str:
    if written.startswith("data:"):
        _check_data(written)
        return written
    if written.startswith("https:"):
        if not _HTTPS.fullmatch(written):
            raise _UnusableError("is no URL")
        return written
    if _SCHEME.match(written):
        raise _UnusableError("must be a path, or a data: or https: URI")
    content = _read(folder / written)
    return f"data:{_kind(content)};base64,{b64encode(content).decode('ascii')}"


def _check_data(uri: str) -> None:
    parts = _DATA.fullmatch(uri)
    if parts is None:
        raise _UnusableError("must be written as data:TYPE;base64,DATA")
    try:
        content = b64decode(parts[2], validate=True)
    except Base64Error:
        raise _UnusableError("has no sound Base64") from None
    if len(content) > MAX_BYTES:
        raise _UnusableError(f"is larger than {MAX_BYTES // 1024} KiB")
    if _kind(content) != parts[1]:
        raise _UnusableError(f"is not of the type that it names; {_KNOWN}")


def _read(path: Path) -> bytes:
    try:
        # A pipe or a device would keep the reader waiting.
        if not path.is_file():
            raise _UnusableError("names no file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = isinstance(error, OSError) and error.strerror
        raise _UnusableError(f"cannot be read: {reason or 'no path'}") from error
    if len(content) > MAX_BYTES:
        raise _UnusableError(f"is larger than {MAX_BYTES // 1024} KiB")
    return content


def _kind(content: bytes) -> str:
    for kind, is_of_kind in _KINDS.items():
        if is_of_kind(content):
            return kind
    raise _UnusableError(f"is no picture; {_KNOWN}")
