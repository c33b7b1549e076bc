"""What a caller gets who cannot be served."""

import re

from mcp.shared.exceptions import MCPError
from mcp_types import MISSING_REQUIRED_CLIENT_CAPABILITY, CallToolResult, TextContent

from perstack.errors import PerstackError
from perstack.server.caller import TASKS_EXTENSION
from perstack.server.calls.excerpts import MAX_ERROR_CHARACTERS
from perstack.server.reading.documents import sound

_NAME = re.compile(r"[\w@:/.{}?,-]{1,100}", re.ASCII)


def called(name: str) -> str:
    """A name that a caller gave, to be put into a message about it.

    What cannot be a name is not repeated: whoever reads the message shall read nothing else in it.
    """
    return f" {name!r}" if _NAME.fullmatch(name) else ""


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
