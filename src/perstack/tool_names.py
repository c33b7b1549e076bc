"""How an expert is called as a tool, by MCP clients and by models alike."""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

MAX_TOOL_NAME = 40
_SUFFIX_DIGITS = 6


def tool_name(expert_key: str) -> str:
    """The tool name of an expert: `reviewer` for itself, `reviewer__file` for `@reviewer/file`.

    It matches `[a-z0-9_-]{1,40}` and depends on the key alone, so it is the same in every process
    and for every file. A key that is too long is cut and told apart by six hexadecimal digits of
    its hash.
    """
    scope, separator, name = expert_key.removeprefix("@").partition("/")
    parts = (scope, name) if separator and expert_key.startswith("@") else (expert_key,)
    return fit_tool_name("__".join(_slug(part) for part in parts) or "_", expert_key)


def short_tool_name(expert_name: str) -> str:
    """The tool name of a delegate for its delegators: `file` for `@reviewer/file`."""
    return fit_tool_name(_slug(expert_name.rsplit("/", 1)[-1]) or "_", expert_name)


def fit_tool_name(name: str, expert_key: str) -> str:
    """`name` if it is short enough, else its beginning and a hash of the key."""
    return name if len(name) <= MAX_TOOL_NAME else with_hash_suffix(name, expert_key)


def with_hash_suffix(name: str, expert_key: str) -> str:
    """`name` with a suffix of this key alone, for names that would be too long or taken."""
    digest = hashlib.sha256(expert_key.encode()).hexdigest()[:_SUFFIX_DIGITS]
    return f"{name[: MAX_TOOL_NAME - _SUFFIX_DIGITS - 1]}-{digest}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())


_WIRE_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_INVALID_WIRE_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_WIRE_NAME = 64
_WIRE_HASH_DIGITS = 8


@lru_cache(maxsize=1024)
def wire_name(name: str) -> str:
    """The name that goes to the provider: the tool's own where it fits.

    Depends on the name alone, so that a tool keeps its wire name over a whole conversation,
    whatever other tools there are.
    """
    if _WIRE_NAME.fullmatch(name):
        return name
    digest = sha256(name.encode()).hexdigest()[:_WIRE_HASH_DIGITS]
    readable = _INVALID_WIRE_CHARACTER.sub("_", name)[: _MAX_WIRE_NAME - _WIRE_HASH_DIGITS - 1]
    return f"{readable}_{digest}"


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Wire name → tool name, for the tools whose names differ."""
    return {wire: name for name in names if (wire := wire_name(name)) != name}
