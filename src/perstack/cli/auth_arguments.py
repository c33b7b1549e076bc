"""Arguments of `perstack serve` for many users: who is let in, and how much they may do."""

from argparse import ArgumentParser, Namespace
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

from perstack.cli.arguments import positive
from perstack.errors import ConfigError
from perstack.server.auth.options import AuthKind, AuthOptions
from perstack.server.users.limits import DEFAULT_MAX_JOBS, DEFAULT_MAX_TOTAL_JOBS, Limits
from perstack.server.users.users import Users

OF_TOKENS = {"--tokens": "tokens"}
OF_JWT = {
    "--issuer": "issuer",
    "--resource": "resource",
    "--audience": "audiences",
    "--jwks": "jwks",
}
OF_BOTH = {"--required-scope": "required_scopes", "--principals": "principals"}
AUTH_ONLY = {"--auth": "auth", **OF_TOKENS, **OF_JWT, **OF_BOTH}
"""Arguments that mean nothing without --http, and where they are kept."""


def add_auth_arguments(parser: ArgumentParser) -> None:
    """Who is let in over HTTP, where their files are, and how much they may do."""
    _add_gate_arguments(parser)
    _add_limit_arguments(parser)


def _add_gate_arguments(parser: ArgumentParser) -> None:
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
        type=positive,
        metavar="N",
        help=f"jobs of a user that run at once; by default {DEFAULT_MAX_JOBS} with --auth",
    )
    group.add_argument(
        "--max-total-jobs",
        type=positive,
        metavar="N",
        help=f"jobs that run at once; by default {DEFAULT_MAX_TOTAL_JOBS} with --auth",
    )
    group.add_argument(
        "--max-job-seconds", type=positive, metavar="N", help="how long a job may run"
    )
    group.add_argument(
        "--max-tokens-per-day",
        type=positive,
        metavar="N",
        help="tokens of a user in 24 hours, after which no further job begins",
    )
    group.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="write a JSON line for each request; by default to stderr, with --auth",
    )


def auth_options(options: Namespace) -> AuthOptions:
    """How users are known.

    Raises:
        ConfigError: An argument belongs to another way of knowing them.
    """
    kind = _kind(options)
    _refuse(options, OF_TOKENS, f"--auth {kind}", unless=kind == "tokens")
    _refuse(options, OF_JWT, f"--auth {kind}", unless=kind == "jwt")
    _refuse(options, OF_BOTH, "--auth none", unless=kind != "none")
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
    """The host by which users know the server, if that was said."""
    resource: str | None = options.resource
    return () if resource is None else (urlsplit(resource).netloc,)


def users_from(options: Namespace) -> Users | None:
    """How principals are treated, `None` if nobody is asked who they are."""
    return None if _kind(options) == "none" else Users(folder=options.principals)


def limits_from(options: Namespace) -> Limits:
    """How much jobs may do."""
    has_users = _kind(options) != "none"
    return Limits(
        max_jobs=options.max_jobs or (DEFAULT_MAX_JOBS if has_users else None),
        max_total_jobs=options.max_total_jobs or (DEFAULT_MAX_TOTAL_JOBS if has_users else None),
        max_tokens_per_day=options.max_tokens_per_day,
    )


def audit_from(options: Namespace) -> AbstractContextManager[None]:
    """Within this context a line is written for each request, if the arguments want that.

    Raises:
        ConfigError: The file cannot be written; on entering.
    """
    if options.audit is None and _kind(options) == "none":
        return nullcontext()
    from perstack.server.users.audit import audit_to  # noqa: PLC0415 - needs the SDK, unlike --help

    return audit_to(options.audit)


def _kind(options: Namespace) -> AuthKind:
    if options.auth is not None:
        return options.auth
    if options.tokens is not None:
        return "tokens"
    return "jwt" if options.issuer or options.jwks else "none"


def _refuse(options: Namespace, flags: dict[str, str], where: str, *, unless: bool) -> None:
    needless = next((flag for flag, name in flags.items() if getattr(options, name)), None)
    if needless is not None and not unless:
        raise ConfigError(
            f"{needless} means nothing with {where}.",
            hint="Leave it out, or choose the --auth that it belongs to.",
        )
