"""Good and bad replies in the format of each provider, and a server that gives them."""

import json
import struct
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from zlib import crc32

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A response: its pieces are sent one by one; `is_cut` breaks the connection after them."""

    pieces: tuple[bytes, ...]
    content_type: str = "text/event-stream"
    status: int = 200
    is_cut: bool = False


@dataclass(frozen=True)
class Format:
    """How one format says things; each function gives the payloads of a stream.

    Attributes:
        text: A text in pieces, with a good end.
        calls: Tool calls by their arguments, with a good end.
        end: Only an end, for a reason that the format has for failures.
        error: A failure inside a stream; `None` where the format has none.
        frame: A payload as bytes.
    """

    text: Callable[[Sequence[str]], list[Json]]
    calls: Callable[[Sequence[Json]], list[Json]]
    end: Callable[[], list[Json]]
    error: Callable[[], list[Json]]
    frame: Callable[[Json], bytes]
    content_type: str = "text/event-stream"

    def answer(self, payloads: Sequence[Json], **options: Any) -> Answer:
        return Answer(tuple(map(self.frame, payloads)), self.content_type, **options)


def event(payload: Json) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"


def line(payload: Json) -> bytes:
    return json.dumps(payload).encode() + b"\n"


def _chunk(delta: Json, finish: str | None = None) -> Json:
    return {"id": "r", "model": "m", "choices": [{"delta": delta, "finish_reason": finish}]}


def _chat_call(arguments: Json) -> Json:
    # All with one index and without an id, as some servers number them.
    function = {"name": "readTextFile", "arguments": json.dumps(arguments)}
    return _chunk({"tool_calls": [{"index": 0, "function": function}]})


CHAT = Format(
    text=lambda texts: [*(_chunk({"content": text}) for text in texts), _chunk({}, "stop")],
    calls=lambda calls: [*map(_chat_call, calls), _chunk({}, "tool_calls")],
    end=lambda: [_chunk({}, "network_error")],
    error=lambda: [{"error": {"code": 502, "message": "the server behind it is gone"}}],
    frame=event,
)


def _block(index: int, block: Json, delta: Json) -> list[Json]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        {"type": "content_block_delta", "index": index, "delta": delta},
        {"type": "content_block_stop", "index": index},
    ]


def _anthropic(blocks: Sequence[list[Json]], stop: str) -> list[Json]:
    started = {"id": "r", "model": "m", "usage": {"input_tokens": 7}}
    return [
        {"type": "message_start", "message": started},
        *(payload for block in blocks for payload in block),
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


def _anthropic_call(index: int, arguments: Json) -> list[Json]:
    opened: Json = {"type": "tool_use", "id": f"c{index}", "name": "readTextFile", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
    return _block(index, opened, delta)


ANTHROPIC = Format(
    text=lambda texts: _anthropic(
        [_block(0, {"type": "text"}, {"type": "text_delta", "text": text}) for text in texts],
        "end_turn",
    ),
    calls=lambda calls: _anthropic(
        [_anthropic_call(index, arguments) for index, arguments in enumerate(calls)], "tool_use"
    ),
    end=lambda: _anthropic([], "pause_turn"),
    error=lambda: [{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}],
    frame=event,
)


def _candidate(parts: Sequence[Json], finish: str | None = None) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate]}


GEMINI = Format(
    text=lambda texts: [*(_candidate([{"text": text}]) for text in texts), _candidate([], "STOP")],
    calls=lambda calls: [
        _candidate(
            [{"functionCall": {"name": "readTextFile", "args": call}} for call in calls], "STOP"
        )
    ],
    end=lambda: [_candidate([], "MALFORMED_FUNCTION_CALL")],
    error=lambda: [{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}],
    frame=event,
)


def _ollama(message: Json, **fields: Any) -> Json:
    return {"model": "m", "message": message, "done": False, **fields}


OLLAMA = Format(
    text=lambda texts: [
        *(_ollama({"content": text}) for text in texts),
        _ollama({}, done=True, done_reason="stop"),
    ],
    calls=lambda calls: [
        *(
            _ollama({"tool_calls": [{"function": {"name": "readTextFile", "arguments": call}}]})
            for call in calls
        ),
        _ollama({}, done=True, done_reason="stop"),
    ],
    end=lambda: [_ollama({}, done=True, done_reason="unload")],
    error=lambda: [{"error": "the runner has ended"}],
    frame=line,
    content_type="application/x-ndjson",
)


def _delta(index: int, delta: Json) -> Json:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}


def _converse(blocks: Sequence[Json], stop: str) -> list[Json]:
    usage = {"inputTokens": 7, "outputTokens": 1}
    started = {"messageStart": {"role": "assistant"}}
    return [started, *blocks, {"messageStop": {"stopReason": stop}}, {"metadata": {"usage": usage}}]


def _converse_call(index: int, arguments: Json) -> list[Json]:
    start = {"toolUse": {"toolUseId": f"c{index}", "name": "readTextFile"}}
    opened = {"contentBlockStart": {"contentBlockIndex": index, "start": start}}
    return [opened, _delta(index, {"toolUse": {"input": json.dumps(arguments)}})]


def frame(payload: Json) -> bytes:
    """A frame of an event stream of AWS: lengths, headers and payload with their checksums."""
    [(kind, event)] = payload.items()
    header = ":exception-type" if kind.endswith("Exception") else ":event-type"
    headers = b"".join(
        (bytes([len(header)]), header.encode(), b"\x07", struct.pack(">H", len(kind)))
    )
    headers += kind.encode()
    body = json.dumps(event).encode()
    lengths = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    content = lengths + struct.pack(">I", crc32(lengths)) + headers + body
    return content + struct.pack(">I", crc32(content))


CONVERSE = Format(
    text=lambda texts: _converse([_delta(0, {"text": text}) for text in texts], "end_turn"),
    calls=lambda calls: _converse(
        [each for index, call in enumerate(calls) for each in _converse_call(index, call)],
        "tool_use",
    ),
    end=lambda: _converse([], "malformed_model_output"),
    error=lambda: [{"serviceUnavailableException": {"message": "busy"}}],
    frame=frame,
    content_type="application/vnd.amazon.eventstream",
)


@dataclass
class ByteServer:
    """Gives the answers in turn, the last one again and again."""

    url: str
    answers: list[Answer] = field(default_factory=list[Answer])
    requests: list[Json] = field(default_factory=list[Json])

    def next_answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that cannot read what it gets closes the connection."""


@contextmanager
def byte_server() -> Generator[ByteServer]:
    """A server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
            return

        def do_GET(self) -> None:
            # As the metadata server of Google Cloud, which gives tokens to programs there.
            body = json.dumps({"access_token": "invented-token", "expires_in": 3600}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            state.requests.append(json.loads(body))
            answer = state.next_answer()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.close_connection = answer.is_cut
            chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in answer.pieces]
            for chunk in chunks if answer.is_cut else [*chunks, b"0\r\n\r\n"]:
                self.wfile.write(chunk)
                self.wfile.flush()

    server = _QuietServer(("127.0.0.1", 0), Handler)
    state = ByteServer(f"http://127.0.0.1:{server.server_address[1]}")
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
