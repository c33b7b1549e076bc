"""What a caller gets who cannot be served."""

from mcp_types import CallToolResult, TextContent

from perstack.errors import PerstackError

MAX_CHARACTERS = 39_000


def refused(error: PerstackError) -> CallToolResult:
    """Something that the caller can read and repair."""
    text = str(error).encode("utf-8", "replace").decode("utf-8")[:MAX_CHARACTERS]
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
