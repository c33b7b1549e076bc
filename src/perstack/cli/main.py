"""The command `perstack`: finds the requested command and loads nothing else."""

import gc
import os
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from importlib import import_module
from keyword import iskeyword
from traceback import format_exception
from typing import Any, Protocol, cast

from perstack import RUNTIME_VERSION, __version__
from perstack.cli.terminal import (
    EXIT_CANCELLED,
    EXIT_FAILURE,
    EXIT_SUCCESS,
    Terminal,
    exit_code_for_error,
    standard_terminal,
)
from perstack.errors import PerstackError
from perstack.telemetry.environment import remove_unusable_settings

COMMANDS = {
    "run": "give an expert a task; events as JSON lines on stdout",
    "serve": "offer the experts as tools of an MCP server",
    "token": "make a token for a user of your server",
    "check": "check perstack.toml and show its experts and tools",
    "test": "try your experts with the tests that they declare",
    "log": "show what jobs did",
    "stats": "show what jobs add up to",
    "export": "write a job to a file, for another machine",
    "import": "take in a job that was exported",
    "gc": "remove old jobs",
    "replay": "do a job again from its record and compare",
    "fork": "take a job up again at one of its steps, with a change",
    "diff": "compare two jobs and show where they part",
    "mcp-config": "print what a client needs to know of your experts",
    "bundle": "pack your experts into an .mcpb for desktop clients",
    "demo": "see experts at work, without a key",
}
"""Every command with its summary.

`perstack.cli.commands.<name>` is its module, with `_` for `-`, and behind a keyword of Python.
"""

TIDYING_COMMANDS = frozenset({"bundle", "demo", "export", "log", "replay", "test"})
"""Those that put something in order when Ctrl-C raises an exception.

The others handle signals themselves, or leave nothing behind when the process just ends.
"""

GC_THRESHOLDS = 20_000, 20, 100
"""For a process that is perstack's alone.

With Python's own thresholds, a fifth of the time of a server with many jobs goes into looking for
cycles among values that have none.
"""


OPTIONS_WITH_OPTIONS = frozenset({"--serve"})
"""Their values are options of another command."""


class Command(Protocol):
    """What the module of a command has."""

    def add_arguments(self, parser: ArgumentParser) -> None: ...

    def execute(self, options: Namespace, terminal: Terminal) -> int:
        """Run the command and return its exit code.

        Raises:
            PerstackError: It cannot be done.
        """
        ...


def main(arguments: Sequence[str] | None = None, terminal: Terminal | None = None) -> int:
    """Execute one command and return the exit code.

    By default, the arguments are those of the process, and the terminal is its standard streams.
    """
    if arguments is None:
        gc.set_threshold(*GC_THRESHOLDS)
    words = list(sys.argv[1:] if arguments is None else arguments)
    terminal = terminal or standard_terminal()
    for problem in remove_unusable_settings(os.environ):
        terminal.info(f"perstack: telemetry: {problem}", "yellow")
    try:
        return _parse_and_execute(words, terminal)
    except KeyboardInterrupt:
        terminal.info("perstack: interrupted", "yellow")
        return EXIT_CANCELLED


def _parse_and_execute(words: list[str], terminal: Terminal) -> int:
    name = next((word for word in words if not word.startswith("-")), None)
    command = load_command(name) if name in COMMANDS else None
    parser = build_parser(name, command)
    try:
        options = parser.parse_args(_attach_values(words))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_SUCCESS
    if command is None:
        terminal.write(parser.format_help())
        return EXIT_SUCCESS
    if name in TIDYING_COMMANDS and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return _execute_command(command, options, terminal)


def _attach_values(words: list[str]) -> list[str]:
    """The words with `--serve --sse` as `--serve=--sse`, which argparse takes for two options."""
    attached: list[str] = []
    for word in words:
        if attached and attached[-1] in OPTIONS_WITH_OPTIONS and word.startswith("-"):
            attached[-1] = f"{attached[-1]}={word}"
        else:
            attached.append(word)
    return attached


def _execute_command(command: Command, options: Namespace, terminal: Terminal) -> int:
    is_debugging = getattr(options, "verbose", False) or bool(os.environ.get("PERSTACK_DEBUG"))
    try:
        code = command.execute(options, terminal)
        return code if terminal.failure is None else EXIT_FAILURE
    except Exception as error:  # noqa: BLE001 - the border of the process: a traceback helps no user
        if is_debugging:
            terminal.info("".join(format_exception(error)).rstrip())
        if not isinstance(error, PerstackError):
            error = PerstackError(
                f"Internal error: {type(error).__name__}.",
                hint="Set PERSTACK_DEBUG=1 to see where, and report it.",
            )
        terminal.error(error)
        return exit_code_for_error(error)


def load_command(name: str) -> Command:
    module = f"{name}_" if iskeyword(name) else name.replace("-", "_")
    return cast("Command", import_module(f"perstack.cli.commands.{module}"))


def build_parser(name: str | None, command: Command | None) -> ArgumentParser:
    """The parser of the command line, with the arguments of one command."""
    parser = ArgumentParser(prog="perstack", description="Experts from a perstack.toml.")
    version = f"perstack {__version__} (runtime version {RUNTIME_VERSION})"
    parser.add_argument("-V", "--version", action="version", version=version)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=_InterspersedParser
    )
    for command_name, summary in COMMANDS.items():
        subparser = commands.add_parser(
            command_name, help=summary, description=summary, allow_abbrev=False
        )
        if command_name == name and command is not None:
            command.add_arguments(subparser)
    return parser


class _InterspersedParser(ArgumentParser):
    """Takes options between the other arguments too: `perstack run EXPERT --verbose QUERY`.

    What follows `--` is taken as it stands, which only the plain way of parsing does.
    """

    _is_interspersed = False

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] - one signature for both overloads
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> Any:
        words = None if args is None else list(args)
        if self._is_interspersed or "--" in (words or ()):
            return super().parse_known_args(words, namespace)
        self._is_interspersed = True
        try:
            return self.parse_known_intermixed_args(words, namespace)
        finally:
            self._is_interspersed = False
