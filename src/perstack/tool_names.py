"""Names of tools: of experts for MCP clients and delegators, and of all tools for providers."""

import hashlib
import re
from collections.abc import Collection
from functools import lru_cache

MAX_EXPERT_TOOL_NAME = 40
RESERVED_TOOL_NAMES = frozenset(
    {"perstack_job", "perstack_jobs", "perstack_cancel", "perstack_review_job"}
)
"""What the MCP server calls tools and prompts of its own."""

MAX_TOOL_NAME = 64
"""What every provider takes, of ASCII letters, digits, `_` and `-`."""

_HASH_DIGITS = 6
_WIRE_HASH_DIGITS = 8
_INVALID_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_WIRE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_INVALID_PROPERTY_CHARACTER = re.compile(r"[^a-zA-Z0-9_]")


def tool_name(expert_key: str) -> str:
    """The tool name of an expert: `reviewer` for itself, `reviewer__file` for `@reviewer/file`.

    It matches `[a-z0-9_-]{1,40}` and depends on the key alone, so it is the same in every process
    and for every file. A key that is too long is cut and told apart by six hexadecimal digits of
    its hash, as is one whose name the server has for itself.
    """
    scope, separator, name = expert_key.removeprefix("@").partition("/")
    parts = (scope, name) if separator and expert_key.startswith("@") else (expert_key,)
    name = _fit("__".join(_sanitize(part.lower()) for part in parts) or "_", expert_key)
    return with_hash_suffix(name, expert_key) if name in RESERVED_TOOL_NAMES else name


def short_tool_name(expert_name: str) -> str:
    """The tool name of a delegate for its delegators: `file` for `@reviewer/file`."""
    return _fit(_sanitize(expert_name.rsplit("/", 1)[-1].lower()) or "_", expert_name)


def with_hash_suffix(name: str, expert_key: str) -> str:
    """`name` with a suffix of this key alone, for names that would be too long or taken."""
    return _cut_with_hash(name, expert_key, MAX_EXPERT_TOOL_NAME, separator="-")


def skill_tool_name(skill_name: str, original_name: str, taken: Collection[str]) -> str:
    """The name by which a model calls a skill's tool.

    The tool's own if it is free, else with the skill's before it, else with a hash of both.
    """
    prefixed = f"{skill_name}_{original_name}"
    for name in (_provider_name(original_name), _provider_name(prefixed)):
        if name not in taken:
            return name
    return _cut_with_hash(_provider_name(prefixed), f"{skill_name}\0{original_name}", MAX_TOOL_NAME)


@lru_cache(maxsize=1024)
def wire_name(name: str) -> str:
    """The name that goes to the provider: the tool's own where it fits.

    Depends on the name alone, so that a tool keeps its wire name over a whole conversation,
    whatever other tools there are.
    """
    sanitized = _sanitize(name)
    if _WIRE_NAME.fullmatch(name):
        return name
    if not _WIRE_NAME.match(sanitized):
        sanitized = f"_{sanitized}"
    return _cut_with_hash(sanitized, name, MAX_TOOL_NAME, digits=_WIRE_HASH_DIGITS)


def property_wire_name(name: str) -> str:
    """A name that every provider takes for a property, of this name alone.

    The providers differ in what they take: each does ASCII letters, digits and `_`.
    """
    sanitized = _INVALID_PROPERTY_CHARACTER.sub("_", name).strip("_")
    separated = f"_{sanitized}" if sanitized[:1].isdigit() else sanitized
    return _cut_with_hash(separated, name, MAX_TOOL_NAME, digits=_WIRE_HASH_DIGITS)


def _fit(name: str, expert_key: str) -> str:
    return name if len(name) <= MAX_EXPERT_TOOL_NAME else with_hash_suffix(name, expert_key)


def _provider_name(name: str) -> str:
    sanitized = _sanitize(name)
    if len(sanitized) <= MAX_TOOL_NAME:
        return sanitized
    return _cut_with_hash(sanitized, name, MAX_TOOL_NAME)


def _sanitize(text: str) -> str:
    return _INVALID_CHARACTER.sub("_", text)


def _cut_with_hash(
    name: str, source: str, limit: int, *, separator: str = "_", digits: int = _HASH_DIGITS
) -> str:
    digest = hashlib.sha256(source.encode()).hexdigest()[:digits]
    return f"{name[: limit - digits - 1]}{separator}{digest}"
