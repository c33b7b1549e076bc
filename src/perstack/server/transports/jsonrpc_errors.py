"""JSON-RPC errors for input that is no message, the same on every transport."""

from typing import Any, cast

from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, RequestId

from perstack.json_lines import parse_json


def jsonrpc_error(request_id: RequestId | None, code: int, message: str) -> JSONRPCError:
    """An error response."""
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=message))


def invalid_message_error(data: bytes) -> JSONRPCError:
    """The error response to a line or a body that is no message, with the id if it has one."""
    document = parse_json(data)
    if document is None:
        return jsonrpc_error(None, PARSE_ERROR, "The message is not JSON")
    request_id: RequestId | None = None
    if isinstance(document, dict):
        fields = cast("dict[str, Any]", document)
        raw_id = fields.get("id")
        if "method" in fields and isinstance(raw_id, str | int) and not isinstance(raw_id, bool):
            request_id = raw_id
    return jsonrpc_error(request_id, INVALID_REQUEST, "The message is not a JSON-RPC 2.0 message")
