"""From what was said to a gate that lets users in."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter, ValidationError

from perstack.errors import ConfigError
from perstack.runtime.clock import SystemClock
from perstack.runtime.ports import Clock
from perstack.server.auth.claims import Expected
from perstack.server.auth.gate import Auth, OAuthResource
from perstack.server.auth.jwt import JwtVerifier
from perstack.server.auth.key_source import FileKeys, KeySource, UrlKeys, check_url
from perstack.server.auth.options import AuthOptions
from perstack.server.auth.tokens import FileTokens

# Clients compare the issuer letter by letter, so it must not get a slash that was not given.
URL = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))


def open_auth(options: AuthOptions, clock: Clock | None = None) -> Auth | None:
    """The gate; `None` if nobody is asked who they are. Keys at a URL are not fetched yet.

    Raises:
        ConfigError: Something is missing or cannot be used.
    """
    clock = clock or SystemClock()
    match options.kind:
        case "none":
            return None
        case "tokens":
            return _by_tokens(options, clock)
        case "jwt":
            return _by_jwt(options, clock)


def _by_tokens(options: AuthOptions, clock: Clock) -> Auth:
    if options.tokens is None:
        raise ConfigError(
            "--auth tokens needs --tokens FILE.", hint="Make an entry with `perstack token`."
        )
    verifier = FileTokens(options.tokens, clock)
    return Auth(verifier=verifier, required_scopes=options.required_scopes)


def _by_jwt(options: AuthOptions, clock: Clock) -> Auth:
    issuer, resource, jwks = options.issuer, options.resource, options.jwks
    if issuer is None or resource is None or jwks is None:
        given = {"--issuer": issuer, "--resource": resource, "--jwks": jwks}
        missing = ", ".join(flag for flag, value in given.items() if value is None)
        raise ConfigError(f"--auth jwt needs {missing} too.", hint="See perstack serve --help.")
    check_url(issuer, "--issuer")
    check_url(resource, "--resource")
    url = _url(resource)
    expected = Expected(
        issuer=issuer,
        audiences=frozenset(options.audiences or (resource,)),
        resource=str(url),
    )
    return Auth(
        verifier=JwtVerifier(_keys(jwks, clock), expected, clock),
        required_scopes=options.required_scopes,
        resource=OAuthResource(issuer=_url(issuer), url=url),
    )


def _keys(place: str, clock: Clock) -> KeySource:
    is_url = urlsplit(place).scheme in ("http", "https")
    return UrlKeys(place, clock) if is_url else FileKeys(Path(place))


def _url(text: str) -> AnyHttpUrl:
    try:
        return URL.validate_python(text)
    except ValidationError as error:
        raise ConfigError(f"{text!r} is not a URL.", hint="Write it as https://….") from error
