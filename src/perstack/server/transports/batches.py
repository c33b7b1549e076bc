"""JSON-RPC batches: several messages in one array, in the protocol versions that have them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from mcp_types import (
    INVALID_REQUEST,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from perstack.json_lines import decode_message
from perstack.server.transports.jsonrpc_errors import invalid_message_error, jsonrpc_error

LAST_VERSION_WITH_BATCHES = "2025-03-26"
MAX_BATCH_MESSAGES = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of a batch, and the errors for those that are none."""

    messages: tuple[JSONRPCMessage, ...]
    refusals: tuple[JSONRPCError, ...]


def parse_batch(document: object, version: str | None) -> Batch | JSONRPCError | None:
    """The batch that a document is, the error if it is refused as a whole, or `None`.

    Args:
        document: What a line or a body says.
        version: The protocol version of the connection, if it is known.
    """
    if not isinstance(document, list):
        return None
    elements = cast("list[object]", document)
    if version is not None and version > LAST_VERSION_WITH_BATCHES:
        problem = f"Protocol version {version} has no batches; send one message at a time"
    elif not elements:
        problem = "The batch is empty"
    elif len(elements) > MAX_BATCH_MESSAGES:
        problem = f"The batch has {len(elements):,} messages, more than {MAX_BATCH_MESSAGES}"
    else:
        return _split(elements)
    return jsonrpc_error(None, INVALID_REQUEST, problem)


def _split(elements: list[object]) -> Batch:
    messages: list[JSONRPCMessage] = []
    refusals: list[JSONRPCError] = []
    for element in elements:
        data = json.dumps(element).encode()
        message = decode_message(data)
        if message is None:
            refusals.append(invalid_message_error(data))
        elif isinstance(message, JSONRPCRequest) and message.method == "initialize":
            problem = "initialize is sent alone and not in a batch"
            refusals.append(jsonrpc_error(message.id, INVALID_REQUEST, problem))
        else:
            messages.append(message)
    return Batch(tuple(messages), tuple(refusals))


def encode_batch(answers: Sequence[bytes]) -> bytes:
    """The line for several encoded messages."""
    return b"[" + b",".join(answer.strip() for answer in answers) + b"]\n"


@dataclass(eq=False, slots=True)
class _PendingBatch:
    awaited: set[RequestId]
    answers: list[JSONRPCMessage]


@dataclass(slots=True)
class PendingBatches:
    """The batches of one connection whose requests are not all answered yet.

    A method that ends a batch returns the answers to all of it.
    """

    _batches: dict[RequestId, _PendingBatch] = field(default_factory=dict[RequestId, _PendingBatch])

    def begin(self, batch: Batch) -> list[JSONRPCMessage]:
        """Begin to collect; a batch without requests is at its end at once."""
        requests = {each.id for each in batch.messages if isinstance(each, JSONRPCRequest)}
        pending = _PendingBatch(requests, list(batch.refusals))
        self._batches.update(dict.fromkeys(requests, pending))
        return [] if requests else pending.answers

    def has(self, message: JSONRPCMessage) -> bool:
        """Whether a message is an answer that belongs to a batch."""
        return isinstance(message, JSONRPCResponse | JSONRPCError) and message.id in self._batches

    def settle(
        self, request_id: RequestId | None, answer: JSONRPCMessage | None = None
    ) -> list[JSONRPCMessage]:
        """Note that a request is answered, or is cancelled and will not be."""
        pending = None if request_id is None else self._batches.pop(request_id, None)
        if pending is None or request_id is None:
            return []
        pending.awaited.discard(request_id)
        if answer is not None:
            pending.answers.append(answer)
        return [] if pending.awaited else pending.answers
