"""No reply of a model is lost, cut or mixed up: bad streams of every format, by every provider."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _model_streams import (
    ANTHROPIC,
    CHAT,
    CONVERSE,
    GEMINI,
    OLLAMA,
    Answer,
    ByteServer,
    Format,
    byte_server,
)
from _stage import PERSTACK, conclude, plain_environment, say, workplace

TOML = """
model = "some-model"
maxRetries = 2

[provider]
providerName = "{provider}"

[provider.setting]
baseUrl = "{url}"

[experts."helper"]
instruction = "Help."
"""
PROVIDERS: dict[str, Format] = {
    "amazon-bedrock": CONVERSE,
    "anthropic": ANTHROPIC,
    "azure-openai": CHAT,
    "deepseek": CHAT,
    "fireworks": CHAT,
    "google": GEMINI,
    "google-vertex": GEMINI,
    "ollama": OLLAMA,
    "openai": CHAT,
}
KEYS = {
    f"{name}_API_KEY": "invented-0123456789"
    for name in ("ANTHROPIC", "AZURE", "DEEPSEEK", "FIREWORKS", "GOOGLE_GENERATIVE_AI", "OPENAI")
} | {
    "AWS_ACCESS_KEY_ID": "invented-0123456789",
    "AWS_SECRET_ACCESS_KEY": "invented-0123456789",
    "AWS_REGION": "eu-west-1",
}
TRICKY = ["see [DONE]", " data: [DONE] ", "a\u2028b\u2029c\x85d", "\x0b\x0c\x1c end"]
FILES = ("a.txt", "b.txt")
WHOLE = ["the whole", " answer"]


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    events: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def text(self) -> str | None:
        completed = self.of("completeRun")
        return completed[0]["text"] if completed else None


def run(folder: Path, server: ByteServer, provider: str, answers: list[Answer]) -> Outcome:
    """Let `perstack run` get these answers."""
    server.answers = answers
    text = TOML.format(provider=provider, url=server.url)
    (folder / "perstack.toml").write_text(text, encoding="utf-8")
    for name in FILES:
        (folder / name).write_text(name, encoding="utf-8")
    done = subprocess.run(
        [*PERSTACK, "run", "helper", "Go."],
        cwd=folder,
        env=plain_environment(
            **KEYS,
            GCE_METADATA_HOST=server.url.removeprefix("http://"),
            CLOUDSDK_CONFIG=str(folder),
        ),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Outcome([json.loads(line) for line in done.stdout.splitlines()])


def is_whole(outcome: Outcome) -> bool:
    return outcome.text == "".join(WHOLE)


def retried(outcome: Outcome) -> bool:
    return is_whole(outcome) and len(outcome.of("retry")) == 1


def tricky_is_whole(outcome: Outcome) -> bool:
    return outcome.text == "".join(TRICKY) and not outcome.of("retry")


def both_are_read(outcome: Outcome) -> bool:
    paths = [call["args"]["path"] for call in outcome.of("callTools")[0]["toolCalls"]]
    results = json.dumps(outcome.of("recordToolResult"))
    return is_whole(outcome) and paths == [*FILES] and all(name in results for name in FILES)


Check = Callable[[Outcome], bool]


def situations(spoken: Format) -> dict[str, tuple[list[Answer], Check]]:
    """What may happen, in one format: the answers in turn, and what must come of them."""
    good = spoken.answer(spoken.text(WHOLE))
    half = spoken.text(WHOLE)[:-1]
    whole = good.pieces
    calls = spoken.answer(spoken.calls([{"path": name} for name in FILES]))
    middle = len(whole) // 2
    cut_short = spoken.frame({"x": 1})[:-6] + b"\n\n"
    broken = (*whole[:middle], cut_short, *whole[middle:])
    single = tuple(bytes([byte]) for byte in b"".join(whole))
    return {
        "text that looks like an end": ([spoken.answer(spoken.text(TRICKY))], tricky_is_whole),
        "one byte at a time": ([Answer(single, spoken.content_type)], is_whole),
        "two calls at once": ([calls, good], both_are_read),
        "a connection that breaks": ([spoken.answer(half, is_cut=True), good], retried),
        "an end without a reason": ([spoken.answer(half[:1]), good], retried),
        "a bad reason": ([spoken.answer(spoken.end()), good], retried),
        "a part that is no JSON": ([Answer(broken, spoken.content_type), good], retried),
        "an error in the stream": ([spoken.answer(spoken.error()), good], retried),
        "520": ([Answer((b"error code: 520",), "text/html", status=520), good], retried),
    }


def main() -> None:
    """Try each situation with each provider."""
    faults: list[str] = []
    tried = 0
    with byte_server() as server, workplace() as place:
        for provider, spoken in PROVIDERS.items():
            for name, (answers, holds) in situations(spoken).items():
                folder = place / str(tried)
                folder.mkdir()
                tried += 1
                outcome = run(folder, server, provider, answers)
                if not holds(outcome):
                    faults.append(f"{provider}, {name}")
                    retries = [event["reason"] for event in outcome.of("retry")]
                    say(f"{provider}, {name}: {outcome.text!r}, retries {retries}")
            say(f"{provider}: {len(situations(spoken))} situations")
    conclude("model-cases", holds=not faults, seen=f"{tried} runs, {len(faults)} faults")


if __name__ == "__main__":
    main()
