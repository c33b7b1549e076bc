"""`exec`: commands of the machine, without a shell, inside the workspace."""

import signal
import sys
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from perstack.models import FrozenModel
from perstack.skills.builtin.failures import (
    ToolFailure,
    failure_from_os_error,
    os_errors_as_failures,
)
from perstack.skills.builtin.tool import (
    BuiltInTool,
    JsonObject,
    PathText,
    SystemText,
    ToolContext,
    ToolOutput,
    define_tool,
    path_property,
)
from perstack.skills.builtin.workspace import Workspace, WorkspaceEntry
from perstack.skills.child_environment import child_environment
from perstack.skills.subprocesses import (
    MAX_OUTPUT_BYTES,
    Command,
    CommandResult,
    run_command,
)

DEFAULT_TIMEOUT_MS = 60_000
NO_OUTPUT = "Command executed successfully, but produced no output."
EnvironmentName = Annotated[SystemText, StringConstraints(pattern=r"^[^=]+$")]


class ExecArguments(FrozenModel):
    """Arguments of `exec`."""

    command: PathText
    args: tuple[SystemText, ...] = ()
    env: dict[EnvironmentName, SystemText] = Field(default_factory=dict)
    cwd: PathText = "."
    stdout: bool = True
    stderr: bool = True
    timeout: int = Field(default=DEFAULT_TIMEOUT_MS, ge=1)


async def run_exec(context: ToolContext, raw: Mapping[str, Any]) -> ToolOutput:
    """Run a command and say what it wrote."""
    args = ExecArguments.model_validate(raw)
    environment, refused = child_environment(context.environment, extra=args.env)
    result = await run_in_workspace(context, args, environment)
    note = {"note": f"Not set, because these are protected: {', '.join(refused)}."}
    return _to_output(args, result, note if refused else {})


async def run_in_workspace(
    context: ToolContext, args: ExecArguments, environment: Mapping[str, str]
) -> CommandResult:
    """Run a command in the workspace with exactly this environment.

    Raises:
        ToolFailure: It cannot be started.
    """
    with (
        os_errors_as_failures("Directory", args.cwd),
        context.workspace.directory(args.cwd) as directory,
    ):
        command = Command(
            argv=(args.command, *args.args),
            cwd=_directory_path(context.workspace, directory),
            environment=environment,
            timeout_seconds=args.timeout / 1000,
        )
        try:
            return await run_command(command, context.group_guard)
        except OSError as error:
            raise _start_failure(error, args, command.cwd) from None
    raise AssertionError("a folder that is entered is not left without a result")


def _directory_path(workspace: Workspace, directory: WorkspaceEntry) -> str:
    """A path that leads to the open folder itself, whatever its name means by now."""
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
    # What a failing command wrote is told in any case: it is what the model needs next.
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

TOOLS = (BuiltInTool(DEFINITION, ExecArguments, run_exec),)
