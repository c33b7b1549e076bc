"""What the tests of skills share: fixture servers, a listener that remembers, signs of life."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import anyio

from perstack.core.elicitation import ElicitationReply
from perstack.core.messages import ToolCall
from perstack.definition.model import Definitions, Expert, McpStdioSkill, Skill
from perstack.definition.references import BASE_SKILL
from perstack.runtime.ports import Skills
from perstack.skills.context import SkillTimeouts
from perstack.skills.pool import open_skills

SERVERS = Path(__file__).parent / "servers"
PLAIN = SERVERS / "plain.py"
Event = tuple[Any, ...]


class Recorder:
    """A listener that remembers what it was told, in order: of servers, and of the base skill."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.built_in: list[Event] = []
        self.replies: list[ElicitationReply] = []

    @contextmanager
    def connecting(self, skill_name: str, skill_type: str) -> Generator[None]:
        self.events.append(("connecting", skill_name, skill_type))
        try:
            yield
        except BaseException as error:
            self.events.append(("failed", skill_name, type(error).__name__))
            raise

    def starting(self, skill_name: str, command: str, args: Sequence[str]) -> None:
        self.events.append(("starting", skill_name, command, tuple(args)))

    def connected(
        self, skill_name: str, server_info: dict[str, Any] | None, durations_ms: dict[str, float]
    ) -> None:
        events = self.built_in if skill_name == BASE_SKILL else self.events
        events.append(("connected", skill_name, server_info, durations_ms))

    def stderr(self, skill_name: str, line: str) -> None:
        self.events.append(("stderr", skill_name, line))

    async def elicit(
        self, skill_name: str, message: str, schema: dict[str, Any]
    ) -> ElicitationReply:
        self.events.append(("asked", skill_name, message, schema))
        return self.replies.pop(0) if self.replies else ElicitationReply(action="cancel")

    def disconnected(self, skill_name: str) -> None:
        self.events.append(("disconnected", skill_name))

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event[0] == kind]

    def lines(self) -> str:
        return "\n".join(str(event[2]) for event in self.of("stderr"))


def plain(*options: str, **fields: Any) -> McpStdioSkill:
    """A skill backed by the fixture server."""
    # -S -E: the site-packages of a virtual environment double the time that Python takes to start.
    args = ("-S", "-E", str(PLAIN), *options)
    return McpStdioSkill(type="mcpStdioSkill", command=sys.executable, args=args, **fields)


def expert(
    key: str = "tester", *, skills: Mapping[str, Skill] | None = None, **named: Skill
) -> Expert:
    """An expert with these skills; the base skill comes by itself."""
    return Expert(key=key, instruction="Test.", skills={**(skills or {}), **named})


def call(tool_name: str, skill_name: str = "plain", **args: Any) -> ToolCall:
    """A call of a skill's tool."""
    return ToolCall(id="call1", skill_name=skill_name, tool_name=tool_name, args=args)


def opened(
    workspace: Path,
    environment: Mapping[str, str] | None = None,
    *,
    definitions: Definitions | None = None,
    **timeouts: float,
) -> AbstractAsyncContextManager[Skills]:
    """The skills of a job; a server that does not end by itself gets less time than usual."""
    return open_skills(
        workspace=workspace,
        environment=environment or {"PATH": os.environ["PATH"]},
        definitions=definitions or Definitions(),
        timeouts=SkillTimeouts(**{"grace_seconds": 0.3, **timeouts}),
    )


@contextmanager
def web_server(port: int = 0) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    """The origin and process of `servers/web.py`, which listens before it is ready to answer."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, str(SERVERS / "web.py"), str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
        )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


async def until(is_true: Callable[[], bool], seconds: float = 40) -> None:
    """Wait for something that another process does."""
    with anyio.fail_after(seconds):
        while not is_true():  # noqa: ASYNC110 -- the other process knows no event of ours
            await anyio.sleep(0.005)


async def offspring(workspace: Path) -> int:
    """The process that a server with option `offspring` started."""
    note = workspace / "offspring.pid"
    await until(lambda: note.exists() and note.stat().st_size > 0)
    return int(note.read_text(encoding="ascii"))
