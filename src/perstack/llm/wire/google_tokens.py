"""Access tokens of Google Cloud, by its Application Default Credentials.

The only module that imports google-auth, and it does so in a thread, when a token is first needed.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.to_thread

from perstack.errors import ConfigError, ModelError, PerstackError
from perstack.llm.errors import (
    invalid_response_error,
    is_retryable,
    message_from_body,
    network_error,
    sanitize_message,
    status_name,
)
from perstack.llm.providers.connection import host_of
from perstack.llm.providers.google_vertex import (
    CREDENTIALS_VARIABLE,
    credentials_file,
    metadata_host,
)
from perstack.llm.wire.format import ConnectionFailedError, ErrorStatusError
from perstack.llm.wire.reply import InvalidReplyError, parse_payload

if TYPE_CHECKING:
    from perstack.llm.wire.client import HttpClient

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
MARGIN = timedelta(minutes=4)
"""How long before its end a token is replaced, so that no request arrives with one that is over."""

_PROVIDER = "google-vertex"
_SECRET_FIELDS = ("private_key", "refresh_token", "client_secret")
_LOADERS = {
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
    "external_account": ("google.auth.identity_pool", "from_info"),
    "impersonated_service_account": (
        "google.auth.impersonated_credentials",
        "from_impersonated_service_account_info",
    ),
}
"""Where google-auth reads a kind of file."""


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    """Headers with a token. Has no `repr`, which would show it.

    Attributes:
        secrets: The token, and what it was got with.
        expires_at: By the clock on the wall, which goes on while a machine sleeps.
    """

    headers: Mapping[str, str]
    secrets: tuple[str, ...]
    expires_at: datetime


class GoogleTokens:
    """The token of the present credentials, kept while it is valid.

    Args:
        environment: Names the file of credentials, or has the folder where gcloud left one.
        open_client: The HTTP client, whose proxies and certificates hold for tokens too.
    """

    def __init__(
        self, environment: Mapping[str, str], open_client: Callable[[], Awaitable["HttpClient"]]
    ) -> None:
        self._environment = environment
        self._open_client = open_client
        self._lock = anyio.Lock()
        self._token: _Token | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that no message may contain."""
        return self._token.secrets if self._token else ()

    @property
    def is_current(self) -> bool:
        """Whether there is a token that need not be replaced yet."""
        return self._token is not None and self._token.expires_at - _now() >= MARGIN

    async def headers(self) -> Mapping[str, str]:
        """The headers that authorize a request.

        Raises:
            ConfigError: There are no credentials, or a file cannot be used.
            ModelError: They were refused, or nobody answers who could give a token.
        """
        async with self._lock:
            token = self._token
            if token is None or not self.is_current:
                token = self._token = await self._fetch()
            return token.headers

    def forget(self) -> None:
        """Get a new token for the next request, because the present one was refused."""
        self._token = None

    async def _fetch(self) -> _Token:
        file = credentials_file(self._environment)
        host = metadata_host(self._environment) if file is None else None
        exchange = _TokenExchange(await self._open_client())
        failure: PerstackError
        try:
            if file is not None:
                return await exchange.by_file(file)
            if host is not None:
                return await exchange.by_metadata(host)
            failure = ConfigError(
                f"{CREDENTIALS_VARIABLE} is not set, and there are no other credentials.",
                hint="Write the path of a service account's key file into it, or run"
                " `gcloud auth application-default login`.",
            )
        except (ConnectionFailedError, ErrorStatusError, InvalidReplyError) as error:
            failure = _to_model_error(error, exchange)
        # Outside the handler, so that no context hangs on it: that holds the credentials.
        raise failure


class _TokenExchange:
    """Gets one token. google-auth calls it as its transport, in a thread."""

    def __init__(self, client: "HttpClient") -> None:
        self._client = client
        self.url = ""
        self.secrets: tuple[str, ...] = ()

    async def by_file(self, file: Path) -> _Token:
        headers, expires_at = await anyio.to_thread.run_sync(self._refresh, file)
        return self._token(headers, expires_at)

    async def by_metadata(self, host: str) -> _Token:
        # Of another client, because this server is on the machine itself and behind no proxy.
        client = type(self._client)({})
        self.url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
        try:
            answer = parse_payload(
                await _send(client, "GET", self.url, {"Metadata-Flavor": "Google"}, None)
            )
        finally:
            with anyio.CancelScope(shield=True):
                await client.aclose()
        token, seconds = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not isinstance(seconds, int):
            raise InvalidReplyError("it has no access token")
        expires_at = _now() + timedelta(seconds=seconds)
        return self._token({"authorization": f"Bearer {token}"}, expires_at)

    def _token(self, headers: Mapping[str, str], expires_at: datetime) -> _Token:
        value = headers["authorization"].removeprefix("Bearer ")
        return _Token(headers, (value, *self.secrets), expires_at)

    def _refresh(self, file: Path) -> tuple[dict[str, str], datetime]:
        """The headers, and until when they are valid; on a thread."""
        credentials = self._load(file)
        exceptions: Any = import_module("google.auth.exceptions")
        try:
            credentials.refresh(self)
        except exceptions.GoogleAuthError as error:
            raise InvalidReplyError(str(error)) from None
        headers: dict[str, str] = {}
        credentials.apply(headers)
        # google-auth's times have no zone.
        return headers, credentials.expiry.replace(tzinfo=UTC)

    def _load(self, file: Path) -> Any:
        name = f"The credentials file {str(file)!r}"
        hint = f"Correct the path in {CREDENTIALS_VARIABLE}, or get a new file from Google Cloud."
        try:
            info: Any = json.loads(file.read_bytes())
            module, function = _LOADERS[info["type"]]
        except OSError as error:
            reason = (error.strerror or "unknown reason").lower()
            raise ConfigError(f"{name} cannot be read: {reason}.", hint=hint) from None
        except (ValueError, LookupError, TypeError):
            kinds = ", ".join(_LOADERS)
            raise ConfigError(f"{name} is of none of the kinds {kinds}.", hint=hint) from None
        self.secrets = tuple(str(info[field]) for field in _SECRET_FIELDS if info.get(field))
        # A user's own credentials have the scopes of their login.
        scopes = {} if info["type"] == "authorized_user" else {"scopes": [SCOPE]}
        try:
            return getattr(import_module(module).Credentials, function)(info, **scopes)
        except Exception:  # noqa: BLE001 - of several libraries; its text may have the key
            raise ConfigError(f"{name} is no usable {info['type']} file.", hint=hint) from None

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_options: object,
    ) -> "_TokenResponse":
        """Send a request for google-auth, whose own retries see no failure of it."""
        self.url = url
        data = anyio.from_thread.run(_send, self._client, method, url, headers or {}, body)
        return _TokenResponse(data)


@dataclass(frozen=True, slots=True)
class _TokenResponse:
    """What google-auth wants to see of a response."""

    data: bytes
    status: int = 200

    @property
    def headers(self) -> Mapping[str, str]:
        return {}


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - compared with times of google-auth's own clock


async def _send(
    client: "HttpClient", method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    async with client.send(url, headers, body, method=method) as response:
        return b"".join([piece async for piece in response.pieces])


def _to_model_error(error: Exception, exchange: _TokenExchange) -> ModelError:
    host, secrets = host_of(exchange.url), exchange.secrets
    match error:
        case ConnectionFailedError():
            return network_error(
                f"cannot get an access token from {host}: {error}",
                provider=_PROVIDER,
                secrets=secrets,
                is_retryable=error.is_retryable,
            )
        case ErrorStatusError(response=response):
            reason = message_from_body(response.body) or "no reason given"
            return ModelError(
                sanitize_message(f"{host} answered {response.status}: {reason}", secrets),
                name=status_name(response.status),
                provider=_PROVIDER,
                status=response.status,
                is_retryable=is_retryable(response.status),
            )
        case _:
            return invalid_response_error(error, provider=host, secrets=secrets, is_stream=True)
