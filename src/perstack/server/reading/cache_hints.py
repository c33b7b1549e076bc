"""How long clients may keep what they were told; each for itself, since it differs by caller."""

from collections.abc import Mapping

from mcp.server.caching import CacheableMethod, CacheHint

_OF_DEFINITIONS: tuple[CacheableMethod, ...] = (
    "tools/list",
    "prompts/list",
    "resources/templates/list",
    "server/discover",
)
_OF_JOBS: tuple[CacheableMethod, ...] = ("resources/list", "resources/read")


def hints(list_seconds: int) -> Mapping[CacheableMethod, CacheHint]:
    """The hints for answers that give none of their own."""
    lasting = CacheHint(ttl_ms=list_seconds * 1000, scope="private")
    fleeting = CacheHint(ttl_ms=0, scope="private")
    return {
        **dict.fromkeys(_OF_DEFINITIONS, lasting),
        **dict.fromkeys(_OF_JOBS, fleeting),
    }
