"""`perstack serve`: the experts as tools of an MCP server, over stdio or HTTP."""

import json
import logging
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from perstack.cli.args import engine_settings
from perstack.cli.event_loop import run_async
from perstack.cli.serve_args import (
    add_serve_arguments,
    audit_log_from,
    auth_options_from,
    check_transport,
    job_limits_from,
    public_hosts,
    tenant_settings_from,
    wait_policy_settings,
)
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.definition.loader import find_config
from perstack.settings import Settings

STDIN_HINT = "perstack: waiting for an MCP client on stdin; configure one to start it: "


def add_arguments(parser: ArgumentParser) -> None:
    add_serve_arguments(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    # The rest is loaded later, so that wrong arguments and --help need not wait for the SDK.
    check_transport(options)
    with audit_log_from(options):
        if options.http is None:
            _serve_stdio(options, terminal)
        else:
            _serve_http(options, terminal)
    return EXIT_SUCCESS


def _serve_stdio(options: Namespace, terminal: Terminal) -> None:
    from perstack.server.bootstrap import ServerOptions  # noqa: PLC0415 - as in execute
    from perstack.server.transports.stdio import serve_stdio  # noqa: PLC0415 - as in execute

    if terminal.stdin.isatty():
        config = find_config(options.config, Path.cwd()).resolve()
        entry = {"command": "perstack", "args": ["serve", "--config", str(config)]}
        document = json.dumps({"mcpServers": {"perstack": entry}}, ensure_ascii=False)
        terminal.info(STDIN_HINT + document, "dim")
    run_async(
        serve_stdio, serve_settings_from(options), ServerOptions(**_server_option_values(options))
    )


def _serve_http(options: Namespace, terminal: Terminal) -> None:
    from perstack.server.auth.provider import create_auth  # noqa: PLC0415 - as in execute
    from perstack.server.bootstrap import ServerOptions  # noqa: PLC0415 - as in execute
    from perstack.server.tenants.recovery import RecoveryPolicy  # noqa: PLC0415 - as in execute
    from perstack.server.transports.http import HttpOptions, serve_http  # noqa: PLC0415 - as in execute
    from perstack.server.transports.sockets import HostPort  # noqa: PLC0415 - as in execute

    server_options = ServerOptions(
        **_server_option_values(options), recovery=None if options.no_recover else RecoveryPolicy()
    )
    http_options = HttpOptions(
        address=HostPort(*options.http),
        has_sse=options.sse,
        allowed_hosts=(*options.allowed_host, *public_hosts(options)),
        allowed_origins=tuple(options.allowed_origin),
        auth=create_auth(auth_options_from(options)),
        allows_unauthenticated=options.allow_unauthenticated,
    )

    def announce(url: str) -> None:
        terminal.info(f"perstack: serving {url}")

    # Without it, the first library that logs would choose the format.
    logging.basicConfig(level=logging.WARNING, stream=terminal.stderr, format="%(message)s")

    run_async(serve_http, serve_settings_from(options), server_options, http_options, announce)


def _server_option_values(options: Namespace) -> dict[str, Any]:
    from perstack.server.tools.wait import WaitPolicy  # noqa: PLC0415 - as in execute

    return {
        "publish": options.publish,
        "has_job_tools": not options.no_job_tools,
        "wait_policy": WaitPolicy(**wait_policy_settings(options)),
        "tenant_settings": tenant_settings_from(options),
        "limits": job_limits_from(options),
    }


def serve_settings_from(options: Namespace) -> Settings:
    """The settings that the arguments decide.

    A desktop client starts servers in arbitrary folders, so whatever is not given is looked for
    beside the definition file.
    """
    return replace(engine_settings(options), home="config")
