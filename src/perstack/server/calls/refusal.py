"""What a caller gets who cannot be served."""

from mcp.shared.exceptions import MCPError
from mcp_types import MISSING_REQUIRED_CLIENT_CAPABILITY, CallToolResult, TextContent

from perstack.errors import PerstackError, is_name
from perstack.server.caller import TASKS_EXTENSION
from perstack.server.calls.excerpts import MAX_ERROR_CHARACTERS
from perstack.server.reading.documents import sound


def called(name: str) -> str:
    """A name that a caller gave, to be put into a message about it, if it can be a name."""
    return f" {name!r}" if is_name(name) else ""


def refused(error: PerstackError) -> CallToolResult:
    """Something that the caller can read and repair."""
    text = sound(str(error))[:MAX_ERROR_CHARACTERS]
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def tasks_wanted(what: str) -> MCPError:
    """The refusal of something that only clients with tasks can have; `what` begins the text."""
    return MCPError(
        code=MISSING_REQUIRED_CLIENT_CAPABILITY,
        message=f"{what} needs a client that declares {TASKS_EXTENSION}.",
        data={"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}},
    )
