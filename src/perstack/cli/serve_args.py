"""Command-line arguments of `perstack serve`: authentication, limits and waiting."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from perstack.cli.args import positive_int
from perstack.errors import ConfigError
from perstack.server.auth.config import AuthKind, AuthOptions
from perstack.server.tenants.folders import TenantSettings
from perstack.server.tenants.limits import DEFAULT_MAX_JOBS, DEFAULT_MAX_TOTAL_JOBS, JobLimits
from perstack.server.tools.schemas import LONGEST_WAIT_SECONDS

TOKEN_FILE_ARGUMENTS = {"--tokens": "tokens"}
JWT_ARGUMENTS = {
    "--issuer": "issuer",
    "--resource": "resource",
    "--audience": "audiences",
    "--jwks": "jwks",
}
SHARED_AUTH_ARGUMENTS = {"--required-scope": "required_scopes", "--principals": "principals"}
AUTH_ARGUMENTS = {
    "--auth": "auth",
    **TOKEN_FILE_ARGUMENTS,
    **JWT_ARGUMENTS,
    **SHARED_AUTH_ARGUMENTS,
}
"""Arguments that need --http, with their destinations."""


def add_auth_arguments(parser: ArgumentParser) -> None:
    """Authentication over HTTP, tenant folders, and limits."""
    _add_authentication_arguments(parser)
    _add_limit_arguments(parser)


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
        dest="audiences",
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
        dest="required_scopes",
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
    group.add_argument(
        "--max-jobs",
        type=positive_int,
        metavar="N",
        help=f"jobs of a user that run at once; by default {DEFAULT_MAX_JOBS} with --auth",
    )
    group.add_argument(
        "--max-total-jobs",
        type=positive_int,
        metavar="N",
        help=f"jobs that run at once; by default {DEFAULT_MAX_TOTAL_JOBS} with --auth",
    )
    group.add_argument(
        "--max-job-seconds", type=positive_int, metavar="N", help="how long a job may run"
    )
    group.add_argument(
        "--max-tokens-per-day",
        type=positive_int,
        metavar="N",
        help="tokens of a user in 24 hours, after which no further job begins",
    )
    group.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="write a JSON line for each request; by default to stderr, with --auth",
    )


def auth_options_from(options: Namespace) -> AuthOptions:
    """How users are authenticated.

    Raises:
        ConfigError: An argument belongs to another way of knowing them.
    """
    kind = _auth_kind(options)
    _reject_inapplicable(
        options, TOKEN_FILE_ARGUMENTS, f"--auth {kind}", is_applicable=kind == "tokens"
    )
    _reject_inapplicable(options, JWT_ARGUMENTS, f"--auth {kind}", is_applicable=kind == "jwt")
    _reject_inapplicable(
        options, SHARED_AUTH_ARGUMENTS, "--auth none", is_applicable=kind != "none"
    )
    return AuthOptions(
        kind=kind,
        tokens=options.tokens,
        issuer=options.issuer,
        resource=options.resource,
        audiences=tuple(options.audiences),
        jwks=options.jwks,
        required_scopes=tuple(options.required_scopes),
    )


def public_hosts(options: Namespace) -> tuple[str, ...]:
    """The public host of the server, if configured."""
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


def _auth_kind(options: Namespace) -> AuthKind:
    if options.auth is not None:
        return options.auth
    if options.tokens is not None:
        return "tokens"
    return "jwt" if options.issuer or options.jwks else "none"


def _reject_inapplicable(
    options: Namespace, arguments: dict[str, str], mode: str, *, is_applicable: bool
) -> None:
    inapplicable = next((flag for flag, name in arguments.items() if getattr(options, name)), None)
    if inapplicable is not None and not is_applicable:
        raise ConfigError(
            f"{inapplicable} means nothing with {mode}.",
            hint="Leave it out, or choose the --auth that it belongs to.",
        )


def add_wait_arguments(parser: ArgumentParser) -> None:
    """The arguments for how long calls wait."""
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
        default=None,
        metavar="N",
        help="seconds after which a call becomes a task, for clients that take one; by default 5",
    )


def wait_policy_settings(options: Namespace) -> dict[str, Any]:
    """The parsed arguments as keyword arguments of `WaitPolicy`."""
    waits: list[tuple[str, float]] = options.wait_seconds
    by_client = {client: seconds for client, seconds in waits if client}
    values: dict[str, Any] = {"by_client": by_client}
    default_waits = [seconds for client, seconds in waits if not client]
    if default_waits:
        values["default_seconds"] = default_waits[-1]
    if options.task_after is not None:
        values["grace_seconds"] = options.task_after
    return values


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
