"""`exec`: commands of the machine, without a shell, inside the workspace."""

import signal
import sys
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from perstack.definition.record import Record
from perstack.skills.base.failure import ToolFailure, failure_of, in_words
from perstack.skills.base.process import (
    MAX_OUTPUT_BYTES,
    Command,
    Completion,
    run_command,
)
from perstack.skills.base.tool import (
    Answer,
    BuiltInTool,
    Facts,
    PathText,
    Surroundings,
    SystemText,
    define,
    path_property,
)
from perstack.skills.guard import child_environment
from perstack.skills.workspace import Entry, Workspace

DEFAULT_TIMEOUT_MS = 60_000
NO_OUTPUT = "Command executed successfully, but produced no output."
EnvironmentName = Annotated[SystemText, StringConstraints(pattern=r"^[^=]+$")]


class Exec(Record):
    """Arguments of `exec`."""

    command: PathText
    args: tuple[SystemText, ...] = ()
    env: dict[EnvironmentName, SystemText] = Field(default_factory=dict)
    cwd: PathText = "."
    stdout: bool = True
    stderr: bool = True
    timeout: int = Field(default=DEFAULT_TIMEOUT_MS, ge=1)


async def run_exec(surroundings: Surroundings, raw: Mapping[str, Any]) -> Answer:
    """Run a command and say what it wrote."""
    args = Exec.model_validate(raw)
    environment, refused = child_environment(surroundings.environment, extra=args.env)
    completion = await run_to_end(surroundings, args, environment)
    note = {"note": f"Not set, because these are protected: {', '.join(refused)}."}
    return _judge(args, completion, note if refused else {})


async def run_to_end(
    surroundings: Surroundings, args: Exec, environment: Mapping[str, str]
) -> Completion:
    """Run a command in the workspace with exactly this environment.

    Raises:
        ToolFailure: It cannot be started.
    """
    with (
        in_words("Directory", args.cwd),
        surroundings.workspace.directory(args.cwd) as folder,
    ):
        command = Command(
            line=(args.command, *args.args),
            folder=_path_of(surroundings.workspace, folder),
            environment=environment,
            timeout_seconds=args.timeout / 1000,
        )
        try:
            return await run_command(command, surroundings.group_guard)
        except OSError as error:
            raise _not_started(error, args, command.folder) from None
    raise AssertionError("a folder that is entered is not left without a result")


def _path_of(workspace: Workspace, folder: Entry) -> str:
    """A path that leads to the open folder itself, whatever its name means by now."""
    if sys.platform == "linux":
        return f"/proc/self/fd/{folder.folder}"
    return str(workspace.root / folder.path)


def _not_started(error: OSError, args: Exec, folder: str) -> ToolFailure:
    if error.filename == folder:
        return failure_of(error, "Directory", args.cwd)
    if isinstance(error, FileNotFoundError):
        return ToolFailure(
            "CommandNotFound",
            f"Command {args.command} was not found. Give the name of one program on the PATH; for "
            "pipes and other shell syntax use command sh with args -c and the line.",
        )
    if isinstance(error, PermissionError):
        return ToolFailure("CommandNotFound", f"{args.command} is not an executable file.")
    return failure_of(error, "Command", args.command)


def _judge(args: Exec, completion: Completion, note: Facts) -> Facts:
    stdout, stderr = completion.stdout.text, completion.stderr.text
    # What a failing command wrote is told in any case: it is what the model needs next.
    streams = {"stdout": stdout, "stderr": stderr}
    written = {name: text for name, text in streams.items() if text.strip()} | note
    if completion.ending == "timedOut":
        message = f"Command timed out after {args.timeout}ms."
        raise ToolFailure("CommandTimedOut", message, written)
    if completion.ending == "flooded":
        message = (
            f"Command was stopped, because it wrote more than {MAX_OUTPUT_BYTES // 1024**2} MiB. "
            "Redirect its output to a file."
        )
        raise ToolFailure("TooLarge", message, written)
    if completion.exit_code != 0:
        message = f"Command {_how_it_failed(completion.exit_code)}."
        raise ToolFailure("CommandFailed", message, {"exitCode": completion.exit_code, **written})
    output = (stdout if args.stdout else "") + (stderr if args.stderr else "")
    return {"output": output or NO_OUTPUT, **note}


def _how_it_failed(exit_code: int) -> str:
    if exit_code > 0:
        return f"exited with code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


DEFINITION = define(
    "exec",
    "Run a program of the machine in the workspace and get what it writes. There is no shell: "
    "give the program and its arguments one by one, or run sh with -c and a line for pipes, globs "
    "and redirection. What it leaves in the background is ended when it ends. Much output is cut "
    "in the middle; redirect it to a file if all of it matters.",
    {
        "properties": {
            "command": {
                "type": "string",
                "minLength": 1,
                "description": "The program: a name on the PATH or a path.",
            },
            "args": {
                "type": "array",
                "items": {"type": "string"},
                "default": [],
                "description": "Its arguments, each as the program shall get it.",
            },
            "env": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "default": {},
                "description": "Variables to set. Those that decide what runs, such as PATH, "
                "cannot be set.",
            },
            "cwd": {
                **path_property("Directory to run in; the workspace if left out"),
                "default": ".",
            },
            "stdout": {
                "type": "boolean",
                "default": True,
                "description": "Whether to return its standard output.",
            },
            "stderr": {
                "type": "boolean",
                "default": True,
                "description": "Whether to return its standard error.",
            },
            "timeout": {
                "type": "integer",
                "minimum": 1,
                "default": DEFAULT_TIMEOUT_MS,
                "description": "Milliseconds after which it is ended.",
            },
        },
        "required": ["command"],
    },
)

TOOLS = (BuiltInTool(DEFINITION, Exec, run_exec),)
