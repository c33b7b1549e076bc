"""A folder with definitions, the model that plays them, and the command in front of both."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from _stage import PERSTACK, ROOT, plain_environment
from _upstream_shapes import RUNTIME_EVENTS, Json, additions, event_problems, order_problems

from tests.model_server import ModelServer, Reply, Request, ToolCall
from tests.model_server.script import Route, Routes, ScriptLike, as_script

SKILL = Path(__file__).parent / "upstream" / "skill.py"
RUN_SECONDS = 60.0
ADDED = additions(ROOT / "docs")
KEYS = {
    f"{name}_API_KEY": "invented-0123456789"
    for name in ("ANTHROPIC", "OPENAI", "GOOGLE_GENERATIVE_AI", "DEEPSEEK", "FIREWORKS")
}
HEAD = """
model = "{model}"
maxRetries = 2

[provider]
providerName = "{provider}"

[provider.setting]
baseUrl = "{url}"
"""
MODELS = {
    "anthropic": "claude-sonnet-4-5",
    "openai": "gpt-5",
    "google": "gemini-2.5-flash",
    "deepseek": "deepseek-chat",
    "fireworks": "some-model",
    "ollama": "some-model",
}


class CaseFailedError(Exception):
    """Something is not as the case has it."""


def same(seen: object, wanted: object, what: str) -> None:
    """Fail unless two values are the same."""
    if seen != wanted:
        raise CaseFailedError(f"{what}: {seen!r}, not {wanted!r}")


def holds(condition: object, what: str) -> None:
    """Fail unless something is so."""
    if not condition:
        raise CaseFailedError(what)


@dataclass(frozen=True)
class Case:
    """One behaviour.

    Attributes:
        sentence: What it is, for people.
        check: Tries it in a folder of its own; raises where it does not hold.
        differences: The rows of the table of differences that it shows.
    """

    sentence: str
    check: Callable[[Path], None]
    differences: tuple[str, ...]


def case(*differences: str) -> Callable[[Callable[[Path], None]], Case]:
    """Make a case of a function, whose docstring is its sentence."""

    def make(check: Callable[[Path], None]) -> Case:
        return Case((check.__doc__ or check.__name__).rstrip("."), check, differences)

    return make


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str
    events: list[Json] = field(default_factory=list[Json])

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def of(self, *kinds: str) -> list[Json]:
        """The events of these types."""
        return [event for event in self.events if event["type"] in kinds]

    def one(self, kind: str) -> Json:
        """The only event of a type."""
        found = self.of(kind)
        same(len(found), 1, f"events of type {kind}")
        return found[0]

    @property
    def end(self) -> Json:
        """The last event of the run that the command is about."""
        return next(each for each in reversed(self.events) if each["type"] not in RUNTIME_EVENTS)

    @property
    def job(self) -> str:
        return self.events[0]["jobId"]

    def sequence(self, *kinds: str) -> list[str]:
        """The events of these types with their experts, in order."""
        return [f"{event['type']}:{event['expertKey']}" for event in self.of(*kinds)]


@dataclass
class Project:
    """A workspace."""

    folder: Path
    model: ModelServer
    environment: Mapping[str, str]

    def perstack(self, *words: str, stdin: str = "") -> Ran:
        """Any command."""
        done = subprocess.run(
            [*PERSTACK, *words],
            cwd=self.folder,
            env=plain_environment(**self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=RUN_SECONDS,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def run(self, *words: str, stdin: str = "", wire: str = "full") -> Ran:
        """`perstack run`; what it streams in full has to fit the specification."""
        ran = _streamed(self.perstack("run", *words, "--wire", wire, stdin=stdin))
        if wire == "full":
            problems = [*event_problems(ran.events, ADDED), *order_problems(ran.events)]
            holds(not problems, "; ".join(problems[:3]))
        return ran

    async def _wait_until_asked(self) -> None:
        with anyio.fail_after(RUN_SECONDS):
            await self.model.wait_for_requests(1)

    def interrupt(self, *words: str) -> Ran:
        """A run that gets SIGINT as soon as the model is asked."""
        process = subprocess.Popen(
            [*PERSTACK, "run", *words, "--wire", "full"],
            cwd=self.folder,
            env=plain_environment(**self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        with process:
            anyio.run(self._wait_until_asked)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=RUN_SECONDS)
        return _streamed(Ran(process.returncode, stdout, stderr))

    def completes(self, *words: str, stdin: str = "") -> Ran:
        """A run that ends with an answer."""
        ran = self.run(*words, stdin=stdin)
        same((ran.code, ran.events and ran.end["type"]), (0, "completeRun"), ran.stderr[-300:])
        return ran


def _streamed(ran: Ran) -> Ran:
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    return Ran(ran.code, ran.stdout, ran.stderr, events)


def instruction(name: str) -> str:
    """What an expert is told, and by what the model knows it."""
    return f"You are {name}, and nobody else."


def expert(key: str, *lines: str, name: str | None = None) -> str:
    """The table of an expert, whose name is that of its last part."""
    name = name or key.rpartition("/")[2]
    head = [f'[experts."{key}"]', f'instruction = "{instruction(name)}"']
    return "\n".join([*head, f'description = "Does what {name} does."', *lines, ""])


def skill(key: str, name: str = "pair", *lines: str, arguments: Sequence[str] = ()) -> str:
    """The table of a skill of an expert: a process that serves `first`, `second` and `place`."""
    args = json.dumps([str(SKILL), *arguments])
    head = [f'[experts."{key}".skills."{name}"]', 'type = "mcpStdioSkill"']
    return "\n".join(
        [*head, f"command = {json.dumps(sys.executable)}", f"args = {args}", *lines, ""]
    )


def question(key: str, name: str = "askUser") -> str:
    """The table of a question that an expert may put to the user."""
    schema = json.dumps({"type": "object", "properties": {"text": {"type": "string"}}})
    return "\n".join(
        [
            f'[experts."{key}".skills."user"]',
            'type = "interactiveSkill"',
            f'[experts."{key}".skills."user".tools."{name}"]',
            f"inputJsonSchema = {json.dumps(schema)}",
            "",
        ]
    )


def calls(*named: tuple[str, Mapping[str, Any]], **options: Any) -> Reply:
    """A reply that calls tools."""
    return Reply(tool_calls=tuple(ToolCall(name, args) for name, args in named), **options)


def says(text: str, **options: Any) -> Reply:
    """A reply of plain text."""
    return Reply(text, **options)


def done(result: str = "done") -> Reply:
    """A reply that completes the run."""
    return calls(("attemptCompletion", {"result": result}))


@contextmanager
def project(
    folder: Path, definitions: str, *, provider: str = "anthropic", **replies: ScriptLike
) -> Generator[Project]:
    """A workspace with experts; `replies` are what the model says to each, by its name."""
    routes = [
        Route(as_script(script), system=instruction(name)) for name, script in replies.items()
    ]
    with ModelServer(Routes(*routes)) as model:
        head = HEAD.format(
            model=MODELS[provider], provider=provider, url=_base_url(model, provider)
        )
        (folder / "perstack.toml").write_text(head + definitions, encoding="utf-8")
        yield Project(folder, model, KEYS)


def _base_url(model: ModelServer, provider: str) -> str:
    paths = {"openai": "/v1", "deepseek": "/v1", "fireworks": "/v1", "google": "/v1beta"}
    return model.base_url + paths.get(provider, "")


def result_texts(results: Sequence[Json]) -> list[str]:
    """The texts of results."""
    return ["".join(part.get("text", "") for part in each["result"]) for each in results]


def said_to(request: Request) -> list[str]:
    """What the user has said in a request."""
    return [message.text for message in request.messages if message.role == "user"]
