"""How an expert is called as a tool, by MCP clients and by models alike."""

import hashlib
import re

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
    return fitted("__".join(_plain(part) for part in parts) or "_", expert_key)


def short_tool_name(expert_name: str) -> str:
    """The tool name of a delegate for its delegators: `file` for `@reviewer/file`."""
    return fitted(_plain(expert_name.rsplit("/", 1)[-1]) or "_", expert_name)


def fitted(name: str, expert_key: str) -> str:
    """`name` if it is short enough, else its beginning and a hash of the key."""
    return name if len(name) <= MAX_TOOL_NAME else distinct(name, expert_key)


def distinct(name: str, expert_key: str) -> str:
    """`name` with a suffix of this key alone, for names that would be too long or taken."""
    digest = hashlib.sha256(expert_key.encode()).hexdigest()[:_SUFFIX_DIGITS]
    return f"{name[: MAX_TOOL_NAME - _SUFFIX_DIGITS - 1]}-{digest}"


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())
