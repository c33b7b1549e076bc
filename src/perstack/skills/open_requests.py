"""The requests that a server has not answered, and which of them an answer is for."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from mcp.shared.dispatcher import coerce_request_id
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from perstack.skills.responses import (
    Document,
    broken_ids,
    excerpt,
    own_error,
    to_message,
    to_response,
    unreadable_response,
)


@dataclass(frozen=True, slots=True)
class _UnassignedAnswer:
    document: Document
    candidates: frozenset[RequestId]


class OpenRequests:
    """Assigns what a server writes to the requests that it may answer.

    An answer without a usable id is for the only open request. With several it is kept until the
    others are answered; one that may be about a notification, to which careless servers reply,
    until `assign_late` is called.

    Args:
        report: Is told what was written and is no message.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._methods: dict[RequestId, str] = {}
        self._newest_id: RequestId = 0
        self._notified_after: RequestId | None = None
        self._unassigned: list[_UnassignedAnswer] = []

    @property
    def has_late_answers(self) -> bool:
        """Whether `assign_late` would do something."""
        return bool(self._unassigned) and self._notified_after is not None

    def is_answered_by(self, document: Document) -> bool:
        """Whether an object has the id of an open request, and a result or an error."""
        return _is_answer(document) and _request_id(document) in self._methods

    def sent(self, message: JSONRPCMessage) -> None:
        """A message was sent to the server."""
        if isinstance(message, JSONRPCRequest):
            self._newest_id = coerce_request_id(message.id)
            self._methods[self._newest_id] = message.method
        elif isinstance(message, JSONRPCNotification):
            self._notified_after = self._newest_id
            if message.method == "notifications/cancelled":
                cancelled = _request_id({"id": (message.params or {}).get("requestId")})
                self._methods = {
                    each: method for each, method in self._methods.items() if each != cancelled
                }

    def received(self, message: JSONRPCMessage) -> list[JSONRPCMessage]:
        """What to pass on for a valid message."""
        if isinstance(message, JSONRPCNotification):
            return [message]
        if isinstance(message, JSONRPCResponse) and self._close(message.id):
            return [message, *self._assign()]
        if isinstance(message, JSONRPCError) and message.id is not None and self._close(message.id):
            return [own_error(message), *self._assign()]
        return self.received_document(message.model_dump(by_alias=True, exclude_unset=True))

    def received_document(self, document: Document) -> list[JSONRPCMessage]:
        """What to pass on for an object that is or is nearly a message."""
        request_id = _request_id(document)
        is_answer = _is_answer(document)
        method = self._methods.get(request_id) if request_id is not None else None
        if method is not None and request_id is not None and is_answer:
            self._close(request_id)
            return [to_response(document, request_id, method), *self._assign()]
        if method is not None and document.get("method") == method:
            # A server that echoes what it reads.
            return []
        message = to_message(document)
        if message is not None:
            return [message]
        if is_answer and method is None and self._was_sent(request_id):
            # The answer of a call that was cancelled.
            return []
        if not is_answer and "jsonrpc" in document and "method" not in document:
            return self.received_broken(json.dumps(document))
        if not is_answer or not _is_certain_answer(document):
            self._report(excerpt(document))
            return []
        self._unassigned.append(_UnassignedAnswer(document, frozenset(self._methods)))
        return self._assign()

    def received_broken(self, text: str) -> list[JSONRPCMessage]:
        """The end of the request that a text which cannot be read would have answered."""
        ids = broken_ids(text)
        known = [each for each in map(coerce_request_id, ids or ()) if each in self._methods]
        if not known and ids is not None and len(self._methods) == 1:
            known = list(self._methods)
        if not known:
            self._report(text)
            return []
        self._close(known[0])
        return [unreadable_response(text, known[0]), *self._assign()]

    def failed(self, error: JSONRPCError) -> list[JSONRPCMessage]:
        """What to pass on for a request that did not get as far as the server."""
        if error.id is None or not self._close(error.id):
            return []
        return [error, *self._assign()]

    def assign_late(self) -> list[JSONRPCMessage]:
        """Assign what was kept as a possible reply to a notification."""
        self._notified_after = None
        return self._assign()

    def _assign(self) -> list[JSONRPCMessage]:
        responses: list[JSONRPCMessage] = []
        while self._unassigned:
            oldest = self._unassigned[0]
            candidates = [each for each in self._methods if each in oldest.candidates]
            if candidates and (
                self._notified_after is not None or len(candidates) > len(self._unassigned)
            ):
                break
            self._unassigned.pop(0)
            if candidates:
                method = self._methods.pop(candidates[0])
                responses.append(to_response(oldest.document, candidates[0], method))
            else:
                self._report(excerpt(oldest.document))
        return responses

    def _close(self, request_id: RequestId) -> bool:
        answered = coerce_request_id(request_id)
        if self._methods.pop(answered, None) is None:
            return False
        if self._notified_after is not None and self._is_newer(answered, self._notified_after):
            self._notified_after = None
        return True

    def _was_sent(self, request_id: RequestId | None) -> bool:
        return isinstance(request_id, int) and not (
            request_id <= 0 or self._is_newer(request_id, self._newest_id)
        )

    @staticmethod
    def _is_newer(request_id: RequestId, other: RequestId) -> bool:
        # The SDK counts its requests.
        return isinstance(request_id, int) and isinstance(other, int) and request_id > other


def _is_answer(document: Document) -> bool:
    return "result" in document or "error" in document


def _request_id(document: Document) -> RequestId | None:
    raw_id = document.get("id")
    if isinstance(raw_id, float) and raw_id.is_integer():
        return int(raw_id)
    if isinstance(raw_id, str | int) and not isinstance(raw_id, bool):
        return coerce_request_id(raw_id)
    return None


def _is_certain_answer(document: Document) -> bool:
    """Whether an object without a known id is an answer and not, say, a line of a log."""
    error = document.get("error")
    return "jsonrpc" in document or (
        isinstance(error, dict) and "message" in error and document.keys() <= {"id", "error"}
    )
