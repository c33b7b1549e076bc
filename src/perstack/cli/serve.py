"""`perstack serve`: the experts as tools of an MCP server, for as long as its client lives."""

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path

import anyio

from perstack.cli.arguments import (
    add_file_arguments,
    add_model_arguments,
    add_workspace_argument,
    env_paths,
)
from perstack.cli.exits import COMPLETED
from perstack.cli.output import Terminal
from perstack.definition.load import find_config
from perstack.server.schemas import DEFAULT_WAIT_SECONDS, LONGEST_WAIT_SECONDS
from perstack.settings import Settings

HINT = "perstack: waiting for an MCP client on stdin; configure one to start it: "


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_file_arguments(parser)
    add_workspace_argument(parser, "the folder of the definition file")
    add_model_arguments(parser)
    parser.add_argument(
        "--publish",
        choices=("coordinators", "all"),
        default="coordinators",
        help="which experts become tools; by default coordinators, not their delegates",
    )
    parser.add_argument(
        "--no-job-tools",
        dest="has_job_tools",
        action="store_false",
        help="leave out perstack_job, perstack_jobs and perstack_cancel",
    )
    parser.add_argument(
        "--wait-seconds",
        type=_seconds,
        default=DEFAULT_WAIT_SECONDS,
        metavar="N",
        help="how long a call waits for its job unless it says so itself; by default "
        f"{DEFAULT_WAIT_SECONDS}",
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    """Serve until stdin closes.

    Raises:
        PerstackError: The definitions, the environment or the store cannot be used.
    """
    # Loaded here, so that wrong arguments and --help need not wait for the protocol's SDK.
    from perstack.server.ending import end_if_held_up  # noqa: PLC0415 - see above
    from perstack.server.stdio import serve_stdio  # noqa: PLC0415 - see above

    if terminal.stdin.isatty():
        terminal.note(HINT + client_configuration(find_config(options.config, Path.cwd())), "dim")
    anyio.run(
        partial(
            serve_stdio,
            settings(options),
            publish=options.publish,
            job_tools=options.has_job_tools,
            default_wait_seconds=options.wait_seconds,
        )
    )
    end_if_held_up(COMPLETED)
    return COMPLETED


def client_configuration(config: Path) -> str:
    """What most clients want in their configuration file, to start this server."""
    command = {"command": "perstack", "args": ["serve", "--config", str(config.resolve())]}
    return json.dumps({"mcpServers": {"perstack": command}}, ensure_ascii=False)


def settings(options: Namespace) -> Settings:
    """What the arguments decide.

    A desktop client starts servers in arbitrary folders, so whatever is not given is looked for
    beside the definition file.
    """
    return Settings(
        config=options.config,
        workspace=options.workspace,
        home="config",
        env_paths=env_paths(options),
        provider=options.provider,
        model=options.model,
        reasoning_budget=options.reasoning_budget,
        max_steps=options.max_steps,
        max_retries=options.max_retries,
        timeout_ms=options.timeout,
        is_strict=options.strict,
        transport="stdio",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds <= LONGEST_WAIT_SECONDS:
        return seconds
    raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST_WAIT_SECONDS}")
