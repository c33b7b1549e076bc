"""The model of the benchmarks: an endpoint in a process of its own that costs next to nothing.

Unlike the tests' model server it does not parse what it is asked. The query says what to answer:
`run=NAME steps=N latency=MS tool=NAME`, that is N tool calls, each after MS, then a text. Only the
calls of `echo` differ from each other; of others an expert may make five. To a request for a stream
the text is streamed in as many chunks as `chunks=N` says, each written by itself. When each request
was complete and when its answer left can be asked for at `/times/NAME`, on the clock that all
processes of a machine share. Spans that are sent here vanish.
"""

import asyncio  # noqa: TID251 - a bare protocol takes least of the machine from what is measured
import json
import re
import sys
import time
from functools import lru_cache

ORDER = re.compile(rb"run=(\S+) steps=(\d+) latency=(\d+) tool=(\w+)")
CHUNKS = re.compile(rb"chunks=(\d+)")
RESULT = re.compile(rb'"role": ?"tool"')
STREAMED_TEXT = "A few words, and more. " * 1000

exchanges: dict[str, list[tuple[float, float, int]]] = {}


class Exchange(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = bytearray()
        self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= self._wanted and b"\r\n\r\n" in self._received:
            end = self._received.index(b"\r\n\r\n") + 4
            head = bytes(self._received[:end]).lower()
            length = re.search(rb"content-length: *(\d+)", head)
            self._wanted = end + (int(length[1]) if length else 0)
            if len(self._received) < self._wanted:
                return
            arrived = time.monotonic()
            path = bytes(self._received[:end]).split(b" ", 2)[1].decode()
            body = bytes(self._received[end : self._wanted])
            del self._received[: self._wanted]
            self._wanted = 0
            self._answer(path, body, arrived)

    def _answer(self, path: str, body: bytes, arrived: float) -> None:
        order = ORDER.search(body)
        if path.startswith("/times/"):
            self._send(json.dumps(exchanges.get(path.removeprefix("/times/"), [])).encode())
        elif "/completions" not in path or order is None:
            self._send(b"")
        else:
            run, steps, latency, tool = (part.decode() for part in order.groups())
            chunks = CHUNKS.search(body)
            if chunks is not None and b'"stream":true' in body:
                exchanges.setdefault(run, []).append((arrived, time.monotonic(), len(body)))
                self._stream(int(chunks[1]))
                return
            step = len(RESULT.findall(body))
            answer = reply(step, tool if step < int(steps) else None)
            delay = int(latency) / 1000
            if delay:
                asyncio.get_running_loop().call_later(
                    delay, self._reply, run, arrived, len(body), answer
                )
            else:
                self._reply(run, arrived, len(body), answer)

    def _stream(self, chunks: int) -> None:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked"
        self.transport.write(head.encode() + b"\r\n\r\n")
        for event in streamed(chunks):
            self.transport.write(event)

    def _reply(self, run: str, arrived: float, size: int, answer: bytes) -> None:
        exchanges.setdefault(run, []).append((arrived, time.monotonic(), size))
        self._send(answer)

    def _send(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        if not self.transport.is_closing():
            self.transport.write(head.encode() + b"\r\n\r\n" + body)


def reply(step: int, tool: str | None) -> bytes:
    """A completion that calls `tool`, or one that only speaks."""
    message: dict[str, object] = {"role": "assistant", "content": None if tool else "done"}
    if tool:
        # Never the same twice: an expert that repeats itself is stopped.
        arguments = {"text": f"{step:4}" + "x" * 996} if tool == "echo" else {"path": "note.txt"}
        call = {"name": tool, "arguments": json.dumps(arguments)}
        message["tool_calls"] = [{"id": f"call-{step}", "type": "function", "function": call}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    completion = {"id": f"c-{step}", "object": "chat.completion", "created": 1, "model": "gpt-5"}
    return json.dumps({**completion, "choices": [choice], "usage": usage}).encode()


@lru_cache
def streamed(chunks: int) -> list[bytes]:
    """The text in so many events of a completion, and its end, each as a chunk of a body."""
    size = len(STREAMED_TEXT) // chunks
    pieces = [STREAMED_TEXT[start : start + size] for start in range(0, size * chunks, size)]
    pieces[-1] += STREAMED_TEXT[size * chunks :]
    deltas = [({"content": piece}, None) for piece in pieces]
    payloads = [
        json.dumps({"id": "c", "model": "gpt-5", "choices": [choice]})
        for delta, reason in [*deltas, ({}, "stop")]
        for choice in [{"index": 0, "delta": delta, "finish_reason": reason}]
    ]
    events = [f"data: {payload}\n\n".encode() for payload in [*payloads, "[DONE]"]]
    return [b"%x\r\n%s\r\n" % (len(event), event) for event in events] + [b"0\r\n\r\n"]


async def serve() -> None:
    """Serve until killed, and say on which port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Exchange, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
