"""Validates the icons that experts declare, and loads those that are files.

Clients get icons with lists and cannot fetch files, so a file becomes a data: URI. An invalid icon
is a warning; the expert works without it.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from pathlib import Path

from perstack.definition.diagnostics import Diagnostic
from perstack.definition.expert_tool import ExpertTool
from perstack.definition.model import Expert

MAX_ICON_BYTES = 32 * 1024

_MEDIA_TYPES: dict[str, Callable[[bytes], bool]] = {
    "image/png": lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": lambda content: content.startswith(b"\xff\xd8\xff"),
    "image/webp": lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP",
    "image/svg+xml": lambda content: b"<svg" in content[:1024],
}
_MEDIA_TYPE_HINT = "it must be PNG, SVG, JPEG or WebP"
_DATA_URI = re.compile(r"data:([\w/.+-]+);base64,([A-Za-z0-9+/=]+)")
_HTTPS_URL = re.compile(r"https://[^\s/?#@]+(/[^\s]*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class _InvalidIconError(Exception):
    """An icon is invalid; the text is the end of a sentence about its key."""


def load_icons(
    experts: dict[str, Expert], folder: Path
) -> tuple[dict[str, Expert], list[Diagnostic]]:
    """The experts with valid icons, and a warning for each invalid one.

    Args:
        experts: The declared experts, by key.
        folder: The folder that paths are relative to.
    """
    issues: list[Diagnostic] = []
    loaded: dict[str, Expert] = {}
    for key, expert in experts.items():
        icon = None
        if expert.tool.icon is not None:
            try:
                icon = _load_icon(expert.tool.icon, folder)
            except _InvalidIconError as error:
                key_path = ("experts", key, "tool", "icon")
                issues.append(
                    Diagnostic(str(error), "a simple one is drawn instead", key_path=key_path)
                )
        loaded[key] = expert if icon == expert.tool.icon else _with_icon(expert, icon)
    return loaded, issues


def _with_icon(expert: Expert, icon: str | None) -> Expert:
    tool: ExpertTool = expert.tool.model_copy(update={"icon": icon})
    return expert.model_copy(update={"tool": tool})


def _load_icon(source: str, folder: Path) -> str:
    if source.startswith("data:"):
        _check_data_uri(source)
        return source
    if source.startswith("https:"):
        if not _HTTPS_URL.fullmatch(source):
            raise _InvalidIconError("is no URL")
        return source
    if _SCHEME.match(source):
        raise _InvalidIconError("must be a path, or a data: or https: URI")
    content = _read_icon(folder / source)
    return f"data:{_detect_media_type(content)};base64,{b64encode(content).decode('ascii')}"


def _check_data_uri(uri: str) -> None:
    parts = _DATA_URI.fullmatch(uri)
    if parts is None:
        raise _InvalidIconError("must be written as data:TYPE;base64,DATA")
    try:
        content = b64decode(parts[2], validate=True)
    except Base64Error:
        raise _InvalidIconError("has no sound Base64") from None
    if len(content) > MAX_ICON_BYTES:
        raise _InvalidIconError(f"is larger than {MAX_ICON_BYTES // 1024} KiB")
    if _detect_media_type(content) != parts[1]:
        raise _InvalidIconError(f"is not of the type that it names; {_MEDIA_TYPE_HINT}")


def _read_icon(path: Path) -> bytes:
    try:
        # Reading a pipe or a device would block.
        if not path.is_file():
            raise _InvalidIconError("names no file")
        with path.open("rb") as file:
            content = file.read(MAX_ICON_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = isinstance(error, OSError) and error.strerror
        raise _InvalidIconError(f"cannot be read: {reason or 'no path'}") from error
    if len(content) > MAX_ICON_BYTES:
        raise _InvalidIconError(f"is larger than {MAX_ICON_BYTES // 1024} KiB")
    return content


def _detect_media_type(content: bytes) -> str:
    for media_type, has_signature in _MEDIA_TYPES.items():
        if has_signature(content):
            return media_type
    raise _InvalidIconError(f"is no picture; {_MEDIA_TYPE_HINT}")
