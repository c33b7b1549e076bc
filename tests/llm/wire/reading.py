"""Streams read piece by piece."""

from collections.abc import Sequence

from perstack.llm.wire.format import WireFormat
from perstack.llm.wire.framing import Framing
from perstack.llm.wire.reply import ReplyBuilder
from perstack.runtime.ports import Deltas, Generation


def split_at(body: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes in pieces."""
    places = sorted({cut % (len(body) + 1) for cut in cuts})
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


def read_stream(
    wire: WireFormat,
    framing: Framing,
    pieces: Sequence[bytes],
    deltas: Deltas | None = None,
    provider: str = "",
) -> Generation:
    """The reply that a stream holds."""
    builder = ReplyBuilder(deltas, provider=provider)
    reader = wire.reader(builder)
    for piece in pieces:
        for payload in framing.feed(piece):
            if reader.add(payload):
                return builder.build()
    for payload in framing.finish():
        reader.add(payload)
    return builder.build()
