"""What a caller gets who cannot be served."""

from mcp_types import CallToolResult, TextContent

from perstack.errors import PerstackError
from perstack.server.documents import sound
from perstack.server.excerpts import MAX_ERROR_CHARACTERS


def refused(error: PerstackError) -> CallToolResult:
    """Something that the caller can read and repair."""
    text = sound(str(error))[:MAX_ERROR_CHARACTERS]
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
