"""Messages of skill servers that are nearly JSON-RPC, repaired where their meaning is clear."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
    jsonrpc_message_adapter,
)

from perstack.text import replace_surrogates

Document = dict[str, Any]

EXCERPT_CHARACTERS = 300
MAX_BROKEN_STARTS = 20
DISCOVER_METHOD = "server/discover"
DISCOVER_SECONDS = 2.0
"""How long a server may take to say which versions it speaks; old ones do not answer at all."""
SESSION_LOST = -33001
"""Our code, outside of JSON-RPC's range, for a request refused because its session is unknown."""
RESERVED_CODES = frozenset({CONNECTION_CLOSED, SESSION_LOST})
"""The SDK gives the first one to requests whose connection was lost."""
CALL_METHOD = "tools/call"
CLIENT_METHODS = frozenset({"ping", "roots/list", "sampling/createMessage", "elicitation/create"})
"""What a server may ask of its client: known also where `jsonrpc` is missing."""

# A strict decoder refuses control characters in strings, which careless servers leave as they are.
DECODER = json.JSONDecoder(strict=False)
MESSAGE_START = re.compile(r'[\[{]\s*(?:\{\s*)?"(?:jsonrpc|id|result|error|method|params)"\s*:')
OPEN_END = re.compile(r"[\[{]\s*$")
BROKEN_ID = re.compile(r"""["']id["']\s*:\s*(?:["']([^"']*)["']|(-?\d+))""")
BROKEN_OUTCOME = re.compile(r"""["'](?:result|error)["']\s*:""")
BROKEN_METHOD = re.compile(r"""["']method["']\s*:""")


def find_documents(text: str) -> tuple[list[Document], str, str]:
    """The JSON objects in a text that may be messages, also those of arrays, in order.

    Returns:
        The objects, the text around them, and the beginning of one that does not end in this text.
    """
    try:
        documents = list(_objects(DECODER.decode(text)))
    except (ValueError, RecursionError):
        documents = []
    if documents:
        return documents, "", ""
    around, position, broken_starts = "", 0, 0
    while broken_starts < MAX_BROKEN_STARTS:
        start = MESSAGE_START.search(text, position) or OPEN_END.search(text, position)
        if start is None:
            break
        around += text[position : start.start()]
        try:
            value, position = DECODER.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            if _is_cut(error):
                return documents, around, text[start.start() :]
            broken_starts += 1
            around += text[start.start() : error.pos]
            position = error.pos
        except RecursionError:
            break
        else:
            documents += _objects(value)
    return documents, around + text[position:], ""


def to_message(document: Document) -> JSONRPCMessage | None:
    """The request or notification of a server; `None` if the object is neither."""
    method = document.get("method")
    if not isinstance(method, str):
        return None
    is_known = method in CLIENT_METHODS or method.startswith("notifications/")
    # Logs have methods too, such as GET.
    if "jsonrpc" not in document and not is_known:
        return None
    message: Document = {"jsonrpc": "2.0", "method": method}
    if document.get("id") is not None:
        message["id"] = document["id"]
    if isinstance(document.get("params"), dict):
        message["params"] = document["params"]
    return _validate(message)


def to_response(document: Document, request_id: RequestId, method: str) -> JSONRPCMessage:
    """The response to a request, from an object with a `result` or an `error`."""
    error: object = document.get("error")
    result: object = document.get("result")
    if error or "result" not in document:
        return _error(request_id, *error_words(error))
    if isinstance(result, dict):
        response = _validate({"jsonrpc": "2.0", "id": request_id, "result": result})
        if response is not None:
            return response
    elif method == CALL_METHOD:
        text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        content = [] if result is None else [{"type": "text", "text": replace_surrogates(text)}]
        return JSONRPCResponse(jsonrpc="2.0", id=request_id, result={"content": content})
    return _error(
        request_id, PARSE_ERROR, f"its result is not an object: {excerpt(document['result'])}"
    )


def error_words(error: Any) -> tuple[int, str, object]:
    if not error:
        return INTERNAL_ERROR, "an error without words", None
    if not isinstance(error, dict):
        return INTERNAL_ERROR, excerpt(error), None
    fields = cast("Document", error)
    code, message, data = fields.get("code"), fields.get("message"), fields.get("data")
    words = message if isinstance(message, str) and message else excerpt(fields)
    try:
        return int(cast("Any", code)), replace_surrogates(words), data
    except (TypeError, ValueError, OverflowError):
        prefix = f"{code}: " if isinstance(code, str) and message else ""
        return INTERNAL_ERROR, replace_surrogates(prefix + words), data


def unreadable_response(text: str, request_id: RequestId) -> JSONRPCError:
    """The error that ends a request whose answer is broken."""
    try:
        DECODER.decode(text)
        reason = "it has neither a result nor an error"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos + 1}"
    except RecursionError:
        reason = "it is nested too deep"
    message = f"its answer cannot be read ({reason}), so whether it took effect is unknown"
    return _error(request_id, PARSE_ERROR, f"{message}. It wrote: {excerpt(text)}")


def own_error(error: JSONRPCError) -> JSONRPCError:
    """A server's error without a code that tells the connection what no server can tell."""
    if error.error.code not in RESERVED_CODES:
        return error
    return _error(error.id, INTERNAL_ERROR, error.error.message, error.error.data)


def unanswered_discovery(request: JSONRPCRequest) -> JSONRPCError:
    """What a server that does not know the question should have answered."""
    return _error(request.id, METHOD_NOT_FOUND, f"{request.method} was not answered")


def broken_ids(text: str) -> list[RequestId] | None:
    """The ids in a broken line, the likeliest first; `None` if the line is no answer."""
    outcome = BROKEN_OUTCOME.search(text)
    head = text[: outcome.start()] if outcome else text
    if BROKEN_METHOD.search(head) or not (outcome or '"jsonrpc' in head):
        return None
    before = [_matched_id(match) for match in BROKEN_ID.finditer(head)]
    after = [_matched_id(match) for match in BROKEN_ID.finditer(text, len(head))]
    return before + after[::-1]


def excerpt(value: object) -> str:
    """The beginning of a text or of the JSON of a value, on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    words = " ".join(replace_surrogates(text[: 4 * EXCERPT_CHARACTERS]).split())
    return words if len(words) <= EXCERPT_CHARACTERS else f"{words[:EXCERPT_CHARACTERS]}…"


def _objects(value: object) -> Iterator[Document]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    for each in values:
        if isinstance(each, dict):
            yield cast("Document", each)


def _is_cut(error: json.JSONDecodeError) -> bool:
    # An escape sequence that is cut is told at its beginning, a string at its own.
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip()) - 6


def _validate(document: Document) -> JSONRPCMessage | None:
    try:
        text = replace_surrogates(json.dumps(document, ensure_ascii=False))
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    except (ValueError, RecursionError):
        return None


def _error(
    request_id: RequestId | None, code: int, message: str, data: object = None
) -> JSONRPCError:
    code = INTERNAL_ERROR if code in RESERVED_CODES else code
    error = ErrorData(code=code, message=message, data=data)
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=error)


def _matched_id(match: re.Match[str]) -> RequestId:
    text, number = match.groups()
    return int(number) if text is None else text
