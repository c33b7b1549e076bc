"""`perstack serve`: the experts as tools of an MCP server, over stdio or HTTP."""

import json
import logging
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from perstack.cli.args import (
    add_file_arguments,
    add_model_arguments,
    add_workspace_argument,
    model_settings,
)
from perstack.cli.serve_args import (
    AUTH_ARGUMENTS,
    add_auth_arguments,
    add_wait_arguments,
    audit_log_from,
    auth_options_from,
    job_limits_from,
    public_hosts,
    tenant_settings_from,
    wait_policy_settings,
)
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.definition.loader import find_config
from perstack.errors import ConfigError
from perstack.settings import Settings

STDIN_HINT = "perstack: waiting for an MCP client on stdin; configure one to start it: "
PORT_COUNT = 65_536
HTTP_ARGUMENTS = {
    "--sse": "has_sse",
    "--allowed-host": "allowed_hosts",
    "--allowed-origin": "allowed_origins",
    "--allow-unauthenticated": "is_open_to_all",
    "--no-recover": "has_no_recovery",
    **AUTH_ARGUMENTS,
}
"""Arguments that need --http, with their destinations."""


def add_arguments(parser: ArgumentParser) -> None:
    add_file_arguments(parser)
    add_workspace_argument(parser, "the folder of the definition file")
    add_model_arguments(parser)
    _add_tool_arguments(parser)
    _add_http_arguments(parser)
    add_auth_arguments(parser)


def _add_tool_arguments(parser: ArgumentParser) -> None:
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
    add_wait_arguments(parser)


def _add_http_arguments(parser: ArgumentParser) -> None:
    http = parser.add_argument_group(
        "over HTTP",
        "Without --http, the client starts the server and talks over stdin and stdout. "
        "With --http 8000, clients connect to http://127.0.0.1:8000/mcp.",
    )
    http.add_argument(
        "--http",
        type=_parse_address,
        metavar="[HOST:]PORT",
        help="listen for any number of clients; HOST is 127.0.0.1 by default, PORT 0 is any",
    )
    http.add_argument(
        "--sse",
        dest="has_sse",
        action="store_true",
        help="also offer the older HTTP+SSE transport, at /sse",
    )
    http.add_argument(
        "--allowed-host",
        dest="allowed_hosts",
        type=_parse_host,
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="let in requests for this host, such as the name of a reverse proxy; repeatable",
    )
    http.add_argument(
        "--allowed-origin",
        dest="allowed_origins",
        type=_parse_origin,
        action="append",
        default=[],
        metavar="URL",
        help="let in web pages of this origin; repeatable",
    )
    http.add_argument(
        "--allow-unauthenticated",
        dest="is_open_to_all",
        action="store_true",
        help="let in everyone who reaches an address that other machines reach",
    )
    http.add_argument(
        "--no-recover",
        dest="has_no_recovery",
        action="store_true",
        help="leave jobs alone whose process has died, until somebody continues them",
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    """Serve until stdin closes.

    Raises:
        PerstackError: The definitions, the environment or the store cannot be used.
    """
    # Loaded here, so that wrong arguments and --help need not wait for the protocol's SDK.
    from perstack.server.transports.shutdown import force_exit_if_blocked  # noqa: PLC0415 - see above

    _check_transport(options)
    with audit_log_from(options):
        if options.http is None:
            _serve_stdio(options, terminal)
        else:
            _serve_http(options, terminal)
    force_exit_if_blocked(EXIT_SUCCESS)
    return EXIT_SUCCESS


def _serve_stdio(options: Namespace, terminal: Terminal) -> None:
    from perstack.server.bootstrap import ServerOptions  # noqa: PLC0415 - as in execute
    from perstack.server.transports.stdio import serve_stdio  # noqa: PLC0415 - as in execute

    if terminal.stdin.isatty():
        terminal.info(
            STDIN_HINT + client_configuration(find_config(options.config, Path.cwd())), "dim"
        )
    anyio.run(
        serve_stdio, serve_settings_from(options), ServerOptions(**_server_option_values(options))
    )


def _serve_http(options: Namespace, terminal: Terminal) -> None:
    from perstack.server.auth.provider import create_auth  # noqa: PLC0415 - as in execute
    from perstack.server.bootstrap import ServerOptions  # noqa: PLC0415 - as in execute
    from perstack.server.tenants.recovery import RecoveryPolicy  # noqa: PLC0415 - as in execute
    from perstack.server.transports.http import HttpOptions, serve_http  # noqa: PLC0415 - as in execute
    from perstack.server.transports.sockets import HostPort  # noqa: PLC0415 - as in execute

    server_options = ServerOptions(
        **_server_option_values(options),
        recovery=None if options.has_no_recovery else RecoveryPolicy(),
    )
    http_options = HttpOptions(
        address=HostPort(*options.http),
        has_sse=options.has_sse,
        allowed_hosts=(*options.allowed_hosts, *public_hosts(options)),
        allowed_origins=tuple(options.allowed_origins),
        auth=create_auth(auth_options_from(options)),
        allows_unauthenticated=options.is_open_to_all,
    )

    def announce(url: str) -> None:
        terminal.info(f"perstack: serving {url}")

    # Else a library decides on the way of it, by its first careless line.
    logging.basicConfig(level=logging.WARNING, stream=terminal.stderr, format="%(message)s")

    anyio.run(serve_http, serve_settings_from(options), server_options, http_options, announce)


def _server_option_values(options: Namespace) -> dict[str, Any]:
    from perstack.server.tools.wait import WaitPolicy  # noqa: PLC0415 - as in execute

    return {
        "publish": options.publish,
        "has_job_tools": options.has_job_tools,
        "wait_policy": WaitPolicy(**wait_policy_settings(options)),
        "tenant_settings": tenant_settings_from(options),
        "limits": job_limits_from(options),
    }


def _check_transport(options: Namespace) -> None:
    inapplicable = next(
        (flag for flag, name in HTTP_ARGUMENTS.items() if getattr(options, name)), None
    )
    if options.http is None and inapplicable is not None:
        raise ConfigError(
            f"{inapplicable} says how a server is reached over HTTP.",
            hint="Say where it listens too, for example --http 8000.",
        )


def client_configuration(config: Path) -> str:
    """What most clients want in their configuration file, to start this server."""
    command = {"command": "perstack", "args": ["serve", "--config", str(config.resolve())]}
    return json.dumps({"mcpServers": {"perstack": command}}, ensure_ascii=False)


def serve_settings_from(options: Namespace) -> Settings:
    """What the arguments decide.

    A desktop client starts servers in arbitrary folders, so whatever is not given is looked for
    beside the definition file.
    """
    return replace(
        model_settings(options),
        config=options.config,
        workspace=options.workspace,
        home="config",
        max_job_seconds=options.max_job_seconds,
        is_strict=options.strict,
    )


def _parse_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if port.isascii() and port.isdecimal() and int(port) < PORT_COUNT:
        host = host.removeprefix("[").removesuffix("]")
        return host or "127.0.0.1", int(port)
    raise ArgumentTypeError(f"{text!r} is not [HOST:]PORT, such as 8000 or 127.0.0.1:8000")


def _parse_host(text: str) -> str:
    if re.fullmatch(r"[^/\s]+", text):
        return text.lower()
    raise ArgumentTypeError(f"{text!r} is not NAME[:PORT], such as experts.example.com")


def _parse_origin(text: str) -> str:
    # Browsers name an origin without a path, and in small letters; people copy it with a slash.
    origin = text.removesuffix("/").lower()
    if re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#\s*]+", origin):
        return origin
    raise ArgumentTypeError(f"{text!r} is not an origin, such as https://app.example.com")
