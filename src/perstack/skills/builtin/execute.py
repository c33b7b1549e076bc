"""`exec`: runs a command in the workspace, without a shell."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio
from anyio import to_thread
from anyio.abc import Process
from pydantic import BeforeValidator, Field, StringConstraints

from perstack.models import FrozenModel
from perstack.skills.builtin.failures import (
    ToolFailure,
    failure_from_os_error,
)
from perstack.skills.builtin.tool import (
    BuiltInTool,
    JsonObject,
    PathText,
    SystemText,
    ToolContext,
    ToolOutput,
    define_tool,
    parameter,
    path_parameter,
)
from perstack.skills.builtin.workspace import Workspace, WorkspaceEntry
from perstack.skills.child_environment import child_environment
from perstack.skills.subprocesses import Launcher, commands_of_group, signal_group

DEFAULT_TIMEOUT_MS = 60_000
MAX_OUTPUT_BYTES = 10 * 1024 * 1024
MAX_KEPT_BYTES = 32 * 1024
"""Of each stream; half from the beginning and half from the end."""

HALF_KEPT_BYTES = MAX_KEPT_BYTES // 2
READ_CHUNK_BYTES = 64 * 1024
TERMINATE_GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""

ORPHAN_GRACE_SECONDS = 0.25
"""For the rest of the group once the command has ended; short, because zombies that the system has
not reaped yet cannot be told from running processes."""

PIPE_GRACE_SECONDS = 0.5
"""For reading the pipes to their end when the group has ended."""

MAX_NAMED_PROCESSES = 5
MAX_COMMAND_CHARACTERS = 100
NO_OUTPUT = "Command executed successfully, but produced no output."
EnvironmentName = Annotated[SystemText, StringConstraints(pattern=r"^[^=]+$")]


def one_or_many(value: object) -> object:
    """A text as the one argument that it is; models give it where a list is asked for."""
    return (value,) if isinstance(value, str) else value


class ExecArguments(FrozenModel):
    command: PathText
    args: Annotated[tuple[SystemText, ...], BeforeValidator(one_or_many)] = ()
    env: dict[EnvironmentName, SystemText] = Field(default_factory=dict)
    cwd: PathText = "."
    stdout: bool = True
    stderr: bool = True
    timeout: int = Field(default=DEFAULT_TIMEOUT_MS, ge=1)


class OutputBuffer:
    """One stream of a command: counts all bytes, keeps the beginning and the end."""

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        remaining = HALF_KEPT_BYTES - len(self._head)
        self._head += data[:remaining]
        self._tail += data[remaining:]
        # Trimmed rarely, so that many small reads do not move the tail each time.
        if len(self._tail) > 2 * MAX_KEPT_BYTES:
            del self._tail[:-HALF_KEPT_BYTES]

    @property
    def omitted_bytes(self) -> int:
        return max(self.size - MAX_KEPT_BYTES, 0)

    @property
    def text(self) -> str:
        tail = self._tail[-HALF_KEPT_BYTES:]
        if not self.omitted_bytes:
            return (self._head + tail).decode("utf-8", "replace")
        head = self._head.decode("utf-8", "replace")
        return (
            f"{head}\n[... {self.omitted_bytes} bytes left out; redirect the output to a file and "
            f"read that in parts ...]\n{tail.decode('utf-8', 'replace')}"
        )


async def run_exec(context: ToolContext, raw: Mapping[str, Any]) -> ToolOutput:
    args = ExecArguments.model_validate(raw)
    environment, refused = child_environment(context.environment, extra=args.env)
    result = await run_in_workspace(context, args, environment)
    notes = [f"Not set, because these are protected: {', '.join(refused)}."] if refused else []
    if result.ended:
        names = ", ".join(map(_shortened, result.ended[:MAX_NAMED_PROCESSES]))
        more = len(result.ended) - MAX_NAMED_PROCESSES
        notes.append(
            f"Ended with the command, which left it in the background: {names}"
            f"{f' and {more} more' if more > 0 else ''}. "
            "What has to run longer belongs into the command that needs it."
        )
    omitted = result.stdout.omitted_bytes + result.stderr.omitted_bytes
    if omitted:
        # Said at the end, too: what stands in the middle may be left out of the result in turn.
        notes.append(f"The command wrote {omitted} bytes more, which are not kept.")
    return _to_output(args, result, {"note": " ".join(notes)} if notes else {})


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended; `exit_code` is the negative signal number if a signal ended it.

    `ended` are the command lines of what it left in the background.
    """

    exit_reason: Literal["exited", "timedOut", "flooded"]
    exit_code: int
    stdout: OutputBuffer
    stderr: OutputBuffer
    ended: tuple[str, ...] = ()


def _shortened(command: str) -> str:
    is_long = len(command) > MAX_COMMAND_CHARACTERS
    return f"{command[:MAX_COMMAND_CHARACTERS]}…" if is_long else command


async def run_in_workspace(
    context: ToolContext, args: ExecArguments, environment: Mapping[str, str]
) -> CommandResult:
    """Run a command in the workspace with exactly this environment.

    It is stopped when its time is up or it writes too much. At its end, and on cancellation, all
    that it started is ended too.

    Raises:
        ToolFailure: It cannot be started.
        ValueError: Its arguments cannot be handed to the system.
    """
    with context.workspace.directory(args.cwd) as directory:
        cwd = _directory_path(context.workspace, directory)
        stdout, stderr = os.pipe(), os.pipe()
        for readable in (stdout[0], stderr[0]):
            os.set_blocking(readable, False)
        try:
            try:
                process = await context.launcher.start(
                    (args.command, *args.args),
                    cwd=cwd,
                    environment=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout[1],
                    stderr=stderr[1],
                )
            except OSError as error:
                raise _start_failure(error, args, cwd) from None
            finally:
                os.close(stdout[1])
                os.close(stderr[1])
            return await _supervise(
                context.launcher, process, (stdout[0], stderr[0]), args.timeout / 1000
            )
        finally:
            os.close(stdout[0])
            os.close(stderr[0])
    raise AssertionError("a folder that is entered is not left without a result")


async def _supervise(
    launcher: Launcher, process: Process, readable: tuple[int, int], timeout_seconds: float
) -> CommandResult:
    outputs = (OutputBuffer(), OutputBuffer())
    time_limit = anyio.CancelScope()
    size_limit = anyio.CancelScope()
    left: list[str] = []

    async def collect(handle: int, output: OutputBuffer) -> None:
        while data := await _read_chunk(handle):
            output.add(data)
            if sum(each.size for each in outputs) > MAX_OUTPUT_BYTES:
                size_limit.cancel()

    async with anyio.create_task_group() as readers:
        try:
            for handle, output in zip(readable, outputs, strict=True):
                readers.start_soon(collect, handle, output)
            time_limit.deadline = anyio.current_time() + timeout_seconds
            with time_limit, size_limit:
                await process.wait()
                if signal_group(process.pid, 0):
                    left += await to_thread.run_sync(commands_of_group, process.pid)
        finally:
            await launcher.stop(process, TERMINATE_GRACE_SECONDS, ORPHAN_GRACE_SECONDS)
        readers.cancel_scope.deadline = anyio.current_time() + PIPE_GRACE_SECONDS
    exit_code = -signal.SIGKILL if process.returncode is None else process.returncode
    if size_limit.cancelled_caught:
        return CommandResult("flooded", exit_code, *outputs)
    reason = "timedOut" if time_limit.cancelled_caught else "exited"
    return CommandResult(reason, exit_code, *outputs, ended=tuple(left))


async def _read_chunk(handle: int) -> bytes:
    while True:
        await anyio.wait_readable(handle)
        try:
            return os.read(handle, READ_CHUNK_BYTES)
        except BlockingIOError:
            continue


def _directory_path(workspace: Workspace, directory: WorkspaceEntry) -> str:
    """A path that leads to the open folder itself, even if it was renamed."""
    if sys.platform == "linux":
        return f"/proc/self/fd/{directory.dir_fd}"
    return str(workspace.root / directory.path)


def _start_failure(error: OSError, args: ExecArguments, cwd: str) -> ToolFailure:
    if error.filename == cwd:
        return failure_from_os_error(error, "Directory", args.cwd)
    if isinstance(error, FileNotFoundError):
        return ToolFailure(
            "CommandNotFound",
            f"Command {args.command} was not found. Give the name of one program on the PATH; for "
            "pipes and other shell syntax use command sh with args -c and the line.",
        )
    if isinstance(error, PermissionError):
        return ToolFailure("CommandNotFound", f"{args.command} is not an executable file.")
    return failure_from_os_error(error, "Command", args.command)


def _to_output(args: ExecArguments, result: CommandResult, note: JsonObject) -> JsonObject:
    stdout, stderr = result.stdout.text, result.stderr.text
    # The output of a failing command is always included: the model needs it next.
    streams = {"stdout": stdout, "stderr": stderr}
    captured = {name: text for name, text in streams.items() if text.strip()} | note
    if result.exit_reason == "timedOut":
        message = f"Command timed out after {args.timeout}ms."
        raise ToolFailure("CommandTimedOut", message, captured)
    if result.exit_reason == "flooded":
        message = (
            f"Command was stopped, because it wrote more than {MAX_OUTPUT_BYTES // 1024**2} MiB. "
            "Redirect its output to a file."
        )
        raise ToolFailure("TooLarge", message, captured)
    if result.exit_code != 0:
        message = f"Command {_describe_exit(result.exit_code)}."
        raise ToolFailure("CommandFailed", message, {"exitCode": result.exit_code, **captured})
    output = (stdout if args.stdout else "") + (stderr if args.stderr else "")
    return {"output": output or NO_OUTPUT, **note}


def _describe_exit(exit_code: int) -> str:
    if exit_code > 0:
        return f"exited with code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


DEFINITION = define_tool(
    "exec",
    "Run a program of the machine in the workspace and get what it writes. There is no shell: "
    "give the program and its arguments one by one, or run sh with -c and a line for pipes, globs "
    "and redirection. What it leaves in the background is ended when it ends, and named. Much "
    "output is cut in the middle; redirect it to a file if all of it matters.",
    {
        "command": parameter("string", "The program: a name on the PATH or a path.", minLength=1),
        "args": parameter(
            "array",
            "Its arguments, each as the program shall get it.",
            items={"type": "string"},
            default=[],
        ),
        "env": parameter(
            "object",
            "Variables to set. Those that decide what runs, such as PATH, cannot be set.",
            additionalProperties={"type": "string"},
            default={},
        ),
        "cwd": {
            **path_parameter("Directory to run in; the workspace if left out"),
            "default": ".",
        },
        "stdout": parameter("boolean", "Whether to return its standard output.", default=True),
        "stderr": parameter("boolean", "Whether to return its standard error.", default=True),
        "timeout": parameter(
            "integer",
            "Milliseconds after which it is ended.",
            minimum=1,
            default=DEFAULT_TIMEOUT_MS,
        ),
    },
    ExecArguments,
)

TOOLS = (BuiltInTool(DEFINITION, ExecArguments, run_exec),)
