"""The messages in what a server writes to its stdout."""

import re
from collections.abc import Callable

from mcp_types import (
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    jsonrpc_message_adapter,
)

from perstack.json_lines import decode_line
from perstack.skills.open_requests import OpenRequests
from perstack.skills.responses import Document, find_documents

INCOMPLETE_SECONDS = 0.5
"""How long the next line of an object that spans several may take, or the end of a line."""
UNASSIGNED_SECONDS = 2.0
"""How long an answer without an id may be taken for a reply to a notification."""
MAX_INCOMPLETE_CHARACTERS = 16 * 1024 * 1024

BLANKS = "\ufeff \t\r\n"
MARK = re.compile(r'\\.|["{}\[\]]', re.DOTALL)


class MessageReader:
    """Reads lines, repairs messages, and ends the requests whose answers cannot be read.

    Args:
        report: Is told each text that is no message.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self.requests = OpenRequests(report)
        self._incomplete = _IncompleteJson()

    @property
    def wait_seconds(self) -> float | None:
        """How long to wait for more before `end_wait` is called; `None` if it need not be."""
        if self._incomplete.lines:
            return INCOMPLETE_SECONDS
        return UNASSIGNED_SECONDS if self.requests.has_late_answers else None

    def read_line(self, line: bytes) -> list[JSONRPCMessage]:
        """The messages that a line contains or completes, and errors for requests it ends."""
        text = decode_line(line)
        try:
            message = jsonrpc_message_adapter.validate_json(text, by_name=False)
        except ValueError:
            # As it is: blanks at its beginning may be inside a string.
            return self._read_text(line.decode("utf-8", "replace"))
        ended = self._end_incomplete()
        if isinstance(message, JSONRPCRequest) or (
            isinstance(message, JSONRPCNotification) and '"id"' in text
        ):
            return ended + self._received(find_documents(text)[0])
        return ended + self.requests.received(message)

    def end_wait(self) -> list[JSONRPCMessage]:
        """What was kept for a while, now that nothing more has come."""
        return self._end_incomplete() if self._incomplete.lines else self.requests.assign_late()

    def finish(self) -> list[JSONRPCMessage]:
        """What was kept, now that nothing more can come."""
        return self._end_incomplete() + self.requests.assign_late()

    def _read_text(self, text: str) -> list[JSONRPCMessage]:
        ended: list[JSONRPCMessage] = []
        if self._incomplete.lines:
            if not self._has_message(text):
                self._incomplete.add(text)
                return self._read_text(self._take_incomplete()) if self._incomplete.is_whole else []
            ended = self._end_incomplete()
        documents, around, beginning = find_documents(text)
        messages = ended + self._received(documents)
        if around.strip(BLANKS):
            messages += self.requests.received_broken(around.strip(BLANKS))
        if beginning:
            self._incomplete.add(beginning)
            if self._incomplete.is_whole:
                messages += self._end_incomplete()
        return messages

    def _has_message(self, text: str) -> bool:
        return any(
            "jsonrpc" in document or self.requests.is_answered_by(document)
            for document in find_documents(text)[0]
        )

    def _received(self, documents: list[Document]) -> list[JSONRPCMessage]:
        return [
            message
            for document in documents
            for message in self.requests.received_document(document)
        ]

    def _end_incomplete(self) -> list[JSONRPCMessage]:
        text = self._take_incomplete()
        return self.requests.received_broken(text) if text else []

    def _take_incomplete(self) -> str:
        text = "\n".join(self._incomplete.lines)
        self._incomplete = _IncompleteJson()
        return text


class _IncompleteJson:
    """The lines of a JSON text that has not ended."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0
        self._is_in_string = False
        self._length = 0

    @property
    def is_whole(self) -> bool:
        """Whether its brackets are closed, or it is too long to wait for that."""
        is_balanced = self._depth <= 0 and not self._is_in_string
        return is_balanced or self._length > MAX_INCOMPLETE_CHARACTERS

    def add(self, line: str) -> None:
        self.lines.append(line)
        self._length += len(line)
        for match in MARK.finditer(line):
            mark = match[0]
            if mark == '"':
                self._is_in_string = not self._is_in_string
            elif not self._is_in_string and mark in "{[":
                self._depth += 1
            elif not self._is_in_string and mark in "}]":
                self._depth -= 1
