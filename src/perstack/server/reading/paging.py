"""Cursors: where a list goes on, for lists that come in pages, and for those that do not."""

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PaginatedRequestParams


def refuse_cursor(params: PaginatedRequestParams) -> None:
    """For a list that comes in one piece, and so never gave a cursor.

    Raises:
        MCPError: The client has one all the same.
    """
    if params.cursor is not None:
        raise unknown_cursor()


def unknown_cursor() -> MCPError:
    """What a client gets whose cursor comes from somewhere else."""
    return MCPError(
        code=INVALID_PARAMS, message="This cursor is none that the server gave: begin without one."
    )
