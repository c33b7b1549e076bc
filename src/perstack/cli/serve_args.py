"""Command-line arguments of `perstack serve`, and the options of the server that they set."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from perstack.cli.args import add_engine_arguments, positive_int, positive_number
from perstack.errors import ConfigError
from perstack.server.auth.config import AuthKind, AuthOptions
from perstack.server.tenants.folders import TenantSettings
from perstack.server.tenants.limits import DEFAULT_MAX_JOBS, DEFAULT_MAX_TOTAL_JOBS, JobLimits
from perstack.server.tools.schemas import LONGEST_WAIT_SECONDS

PORT_COUNT = 65_536
AUTH_KINDS_BY_FLAG: dict[str, tuple[AuthKind, ...]] = {
    "--tokens": ("tokens",),
    "--issuer": ("jwt",),
    "--resource": ("jwt",),
    "--audience": ("jwt",),
    "--jwks": ("jwt",),
    "--required-scope": ("tokens", "jwt"),
    "--principals": ("tokens", "jwt"),
}
"""Arguments of authentication, with the kinds of `--auth` that they belong to."""

HTTP_FLAGS = (
    *("--sse", "--allowed-host", "--allowed-origin", "--allow-unauthenticated", "--no-recover"),
    *("--auth", *AUTH_KINDS_BY_FLAG),
)
"""Arguments that need --http."""


def add_serve_arguments(parser: ArgumentParser) -> None:
    add_engine_arguments(parser, "the folder of the definition file")
    _add_tool_arguments(parser)
    _add_http_arguments(parser)
    _add_authentication_arguments(parser)
    _add_limit_arguments(parser)


def _add_tool_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--publish",
        choices=("coordinators", "all"),
        default="coordinators",
        help="which experts become tools; by default coordinators, not their delegates",
    )
    parser.add_argument(
        "--no-job-tools",
        action="store_true",
        help="leave out perstack_job, perstack_jobs and perstack_cancel",
    )
    parser.add_argument(
        "--wait-seconds",
        type=_parse_client_wait,
        action="append",
        default=[],
        metavar="[CLIENT=]N",
        help="how long a call waits for its job unless it says so itself; with CLIENT=, for the "
        "clients whose name begins so; repeatable; by default as long as the client is known to "
        "allow, else 45",
    )
    parser.add_argument(
        "--task-after",
        type=_parse_wait_seconds,
        metavar="N",
        help="seconds after which a call becomes a task, for clients that take one; by default 5",
    )


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
        "--sse", action="store_true", help="also offer the older HTTP+SSE transport, at /sse"
    )
    http.add_argument(
        "--allowed-host",
        type=_parse_host,
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="let in requests for this host, such as the name of a reverse proxy; repeatable",
    )
    http.add_argument(
        "--allowed-origin",
        type=_parse_origin,
        action="append",
        default=[],
        metavar="URL",
        help="let in web pages of this origin; repeatable",
    )
    http.add_argument(
        "--allow-unauthenticated",
        action="store_true",
        help="let in everyone who reaches an address that other machines reach",
    )
    http.add_argument(
        "--no-recover",
        action="store_true",
        help="leave jobs alone whose process has died, until somebody continues them",
    )


def _add_authentication_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(
        "many users over HTTP",
        "Each user works in a folder of their own and sees their own jobs only.",
    )
    group.add_argument(
        "--auth",
        choices=("none", "tokens", "jwt"),
        help="how users are known: by tokens of a file, or by those of an OAuth issuer",
    )
    group.add_argument(
        "--tokens", type=Path, metavar="FILE", help="the file; `perstack token` makes its entries"
    )
    group.add_argument("--issuer", metavar="URL", help="the OAuth issuer, as its tokens name it")
    group.add_argument(
        "--resource", metavar="URL", help="the address of /mcp as users see it, for --auth jwt"
    )
    group.add_argument(
        "--audience",
        action="append",
        default=[],
        metavar="NAME",
        help="what the issuer writes as audience, by default the URL of --resource; repeatable",
    )
    group.add_argument(
        "--jwks", metavar="URL|FILE", help="the public keys of the issuer: a JWK set, or PEM"
    )
    group.add_argument(
        "--required-scope",
        action="append",
        default=[],
        metavar="SCOPE",
        help="let in only tokens with this scope; repeatable",
    )
    group.add_argument(
        "--principals",
        type=Path,
        metavar="DIR",
        help="holds the users' folders; by default perstack/principals in the workspace",
    )


def _add_limit_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    for flag, help_text in (
        (
            "--max-jobs",
            f"jobs of a user that run at once; by default {DEFAULT_MAX_JOBS} with --auth",
        ),
        (
            "--max-total-jobs",
            f"jobs that run at once; by default {DEFAULT_MAX_TOTAL_JOBS} with --auth",
        ),
        ("--max-tokens-per-day", "tokens of a user in 24 hours, after which no further job begins"),
    ):
        group.add_argument(flag, type=positive_int, metavar="N", help=help_text)
    group.add_argument(
        "--max-cost-per-day",
        type=positive_number,
        metavar="USD",
        help="US dollars of a user in 24 hours, where prices are known, after which no further job "
        "begins",
    )
    group.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="write a JSON line for each request; by default to stderr, with --auth",
    )


def check_transport(options: Namespace) -> None:
    """Check that no argument of HTTP is used over stdio.

    Raises:
        ConfigError: One is.
    """
    flag = next((flag for flag in HTTP_FLAGS if _value_of(options, flag)), None)
    if options.http is None and flag is not None:
        raise ConfigError(
            f"{flag} says how a server is reached over HTTP.",
            hint="Say where it listens too, for example --http 8000.",
        )


def auth_options_from(options: Namespace) -> AuthOptions:
    """How users are authenticated.

    Raises:
        ConfigError: An argument belongs to another way of knowing them.
    """
    kind = _auth_kind(options)
    for flag, kinds in AUTH_KINDS_BY_FLAG.items():
        if kind not in kinds and _value_of(options, flag):
            raise ConfigError(
                f"{flag} means nothing with --auth {kind}.",
                hint="Leave it out, or choose the --auth that it belongs to.",
            )
    return AuthOptions(
        kind=kind,
        tokens=options.tokens,
        issuer=options.issuer,
        resource=options.resource,
        audiences=tuple(options.audience),
        jwks=options.jwks,
        required_scopes=tuple(options.required_scope),
    )


def _value_of(options: Namespace, flag: str) -> object:
    return getattr(options, flag.removeprefix("--").replace("-", "_"))


def _auth_kind(options: Namespace) -> AuthKind:
    if options.auth is not None:
        return options.auth
    if options.tokens is not None:
        return "tokens"
    return "jwt" if options.issuer or options.jwks else "none"


def public_hosts(options: Namespace) -> tuple[str, ...]:
    resource: str | None = options.resource
    return () if resource is None else (urlsplit(resource).netloc,)


def tenant_settings_from(options: Namespace) -> TenantSettings | None:
    """The tenant settings; `None` without authentication."""
    return None if _auth_kind(options) == "none" else TenantSettings(folder=options.principals)


def job_limits_from(options: Namespace) -> JobLimits:
    has_users = _auth_kind(options) != "none"
    return JobLimits(
        max_jobs=options.max_jobs or (DEFAULT_MAX_JOBS if has_users else None),
        max_total_jobs=options.max_total_jobs or (DEFAULT_MAX_TOTAL_JOBS if has_users else None),
        max_tokens_per_day=options.max_tokens_per_day,
        max_cost_per_day=options.max_cost_per_day,
    )


def audit_log_from(options: Namespace) -> AbstractContextManager[None]:
    """Write an audit log line for each request within this context, if configured.

    Raises:
        ConfigError: The file cannot be written; on entering.
    """
    if options.audit is None and _auth_kind(options) == "none":
        return nullcontext()
    from perstack.server.middleware.audit import configure_audit_log  # noqa: PLC0415 - needs the SDK, unlike --help

    return configure_audit_log(options.audit)


def wait_policy_settings(options: Namespace) -> dict[str, Any]:
    """The parsed arguments as keyword arguments of `WaitPolicy`."""
    waits: list[tuple[str, float]] = options.wait_seconds
    values: dict[str, Any] = {
        "by_client": {client: seconds for client, seconds in waits if client},
        "default_seconds": next(
            (seconds for client, seconds in reversed(waits) if not client), None
        ),
        "grace_seconds": options.task_after,
    }
    return {name: value for name, value in values.items() if value is not None}


def _parse_client_wait(text: str) -> tuple[str, float]:
    client, _, seconds = text.rpartition("=")
    return client.strip(), _parse_wait_seconds(seconds)


def _parse_wait_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds <= LONGEST_WAIT_SECONDS:
        return seconds
    raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST_WAIT_SECONDS}")


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
