"""Vertex AI: addresses, credentials and their tokens, and the models of Anthropic there."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import jwt
import pytest

from perstack.core.messages import ThinkingPart
from perstack.definition.model import Definitions, Provider
from perstack.errors import ConfigError, ModelError
from perstack.llm.model_factory import open_model
from perstack.llm.providers.connection import resolve_connection
from perstack.llm.wire.client import HttpClient
from perstack.llm.wire.format import HttpResponse
from perstack.llm.wire.google_tokens import GoogleTokens
from perstack.model_resolution import resolve_models
from perstack.runtime.ports import Generation, GenerationRequest
from tests.llm.conversation import INSTRUCTION, Listener, ask, calls, provider_at, returns, says
from tests.llm.endpoint import listener, streamed_or_not
from tests.llm.google_cloud import (
    TOKEN,
    GoogleCloud,
    google_cloud,
    private_key,
    service_account,
)
from tests.model_server import HttpError, ModelServer, Reply, call, model_server

pytestmark = pytest.mark.anyio

NO_CLOUD = {"NO_GCE_CHECK": "true"}
"""For machines of Google Cloud, on which tests may run."""

PUBLISHER = "/v1/projects/our-own/locations/global/publishers/google"


@pytest.fixture
def google() -> Generator[GoogleCloud]:
    with google_cloud() as server:
        yield server


def provider(**setting: Any) -> Provider:
    return Provider.model_validate({"providerName": "google-vertex", "setting": setting})


def request_to(server: ModelServer, **options: Any) -> GenerationRequest:
    at = provider_at("google-vertex", server.base_url + PUBLISHER, options.pop("headers", None))
    options.setdefault("model", "gemini-2.5-flash")
    return ask(at, **options)


async def generate(
    environment: Mapping[str, str], *requests: GenerationRequest, heard: Listener | None = None
) -> list[Generation]:
    model = open_model(definitions=Definitions(), environment=environment)
    try:
        return [await model.generate(request, heard) for request in requests]
    finally:
        await model.aclose()


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_the_location_decides_the_host(location: str, host: str) -> None:
    environment = {"GOOGLE_VERTEX_PROJECT": "env", "GOOGLE_VERTEX_LOCATION": f"{location}\n"}

    connection = resolve_connection(provider(project="a.example:our-own"), "m", environment)

    path = f"projects/a.example:our-own/locations/{location}/publishers/google"
    assert connection.base_url == f"https://{host}/v1/{path}"


def test_without_a_location_it_is_the_global_one() -> None:
    connection = resolve_connection(provider(), "m", {"GOOGLE_VERTEX_PROJECT": "our-own"})
    assert connection.base_url == f"https://aiplatform.googleapis.com{PUBLISHER}"


def test_a_project_that_is_missing_and_a_location_that_is_none_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^GOOGLE_VERTEX_PROJECT is not set"):
        resolve_connection(provider(), "m", {"GOOGLE_VERTEX_LOCATION": "global"})
    with pytest.raises(ConfigError, match=r"'evil\.example/' is no location"):
        resolve_connection(provider(project="our-own", location="evil.example/"), "m", {})


async def test_a_token_is_got_before_a_generation_that_has_none(google: GoogleCloud) -> None:
    async with model_server(Reply("3")) as server:
        request = request_to(server)
        model = open_model(definitions=Definitions(), environment=google.environment)
        was_ready = model.is_ready(request.choice)
        await model.warm_up(request.choice)
        requested = len(google.requests)
        is_ready = model.is_ready(request.choice)
        await model.generate(request, None)
        await model.aclose()

    assert (was_ready, is_ready) == (False, True)
    assert (requested, len(google.requests)) == (1, 1)


async def test_a_token_that_is_refused_before_a_generation_is_a_failure_of_the_provider(
    google: GoogleCloud,
) -> None:
    google.status = 503
    model = open_model(definitions=Definitions(), environment=google.environment)
    choice = ask(
        provider_at("google-vertex", "http://127.0.0.1:9"), model="gemini-2.5-flash"
    ).choice
    with pytest.raises(ModelError) as caught:
        await model.warm_up(choice)
    await model.aclose()
    assert (caught.value.status, caught.value.is_retryable) == (503, True)


async def test_a_token_is_got_with_the_key_of_the_service_account(google: GoogleCloud) -> None:
    async with model_server(Reply("3")) as server:
        await generate(google.environment, request_to(server))

    [(path, headers, form)] = google.requests
    assert (path, headers["content-type"]) == ("/token", "application/x-www-form-urlencoded")
    claims = jwt.decode(
        form["assertion"],
        private_key().public_key(),
        algorithms=["RS256"],
        audience="https://oauth2.googleapis.com/token",
    )
    assert claims["iss"] == "expert@our-own.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    [request] = server.requests
    assert request.path == f"{PUBLISHER}/models/gemini-2.5-flash:generateContent"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(("seconds", "count"), [(3600, 1), (200, 2)])
async def test_a_token_is_kept_until_shortly_before_its_end(
    google: GoogleCloud, seconds: int, count: int
) -> None:
    google.seconds = seconds
    async with model_server(Reply("3")) as server:
        await generate(google.environment, request_to(server), request_to(server))

    assert len(google.requests) == count


async def test_a_token_that_is_refused_is_not_used_again(google: GoogleCloud) -> None:
    model = open_model(definitions=Definitions(), environment=google.environment)
    async with model_server([HttpError(401, "revoked"), Reply("3")]) as server:
        with pytest.raises(ModelError, match="revoked"):
            await model.generate(request_to(server), None)
        await model.generate(request_to(server), None)
    await model.aclose()

    assert len(google.requests) == 2


async def test_requests_at_once_share_one_token(google: GoogleCloud) -> None:
    model = open_model(definitions=Definitions(), environment=google.environment)
    async with model_server(Reply("3")) as server:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(model.generate, request_to(server), None)
        await model.aclose()

    assert (len(server.requests), len(google.requests)) == (10, 1)


async def test_tokens_are_asked_for_through_the_proxy_too(google: GoogleCloud) -> None:
    key = service_account("http://tokens.example/token")
    google.file.write_text(json.dumps(key), encoding="utf-8")
    async with model_server(Reply("3")) as server:
        proxy = {"HTTP_PROXY": google.url, "NO_PROXY": f"127.0.0.1:{server.port}"}
        await generate({**google.environment, **proxy}, request_to(server))

    assert google.requests[0][0] == "http://tokens.example/token"


async def test_a_machine_of_google_cloud_needs_no_file(google: GoogleCloud) -> None:
    environment = {
        "GCE_METADATA_HOST": google.url.removeprefix("http://"),
        # Nothing on the way to this server may see the token.
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }
    async with model_server(Reply("3")) as server:
        environment["NO_PROXY"] = f"127.0.0.1:{server.port}"
        await generate(environment, request_to(server), request_to(server))

    [(path, headers, _)] = google.requests
    assert path == "/computeMetadata/v1/instance/service-accounts/default/token"
    assert headers["metadata-flavor"] == "Google"
    assert server.requests[1].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_metadata_server_that_gives_no_token_is_worth_another_try(
    google: GoogleCloud,
) -> None:
    google.answer = {"error": "no account"}
    async with model_server(Reply("3")) as server:
        with pytest.raises(ModelError, match="no access token") as caught:
            await generate(
                {"GCE_METADATA_HOST": google.url.removeprefix("http://")}, request_to(server)
            )

    assert caught.value.is_retryable


class FakeClient:
    """Satisfies `HttpClient` as far as tokens need it, for an address that is fixed."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes | None]] = []

    @asynccontextmanager
    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes | None, *, method: str = "POST"
    ) -> AsyncGenerator[HttpResponse]:
        self.requests.append((url, body))
        yield HttpResponse("application/json", self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield json.dumps({"access_token": TOKEN, "expires_in": 3600}).encode()


async def test_the_login_that_gcloud_has_left_is_used(tmp_path: Path) -> None:
    file = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
    file.parent.mkdir(parents=True)
    login = {
        "type": "authorized_user",
        "client_id": "gcloud",
        "client_secret": "invented-secret",
        "refresh_token": "invented-refresh-token",
        "quota_project_id": "our-own",
    }
    file.write_text(json.dumps(login), encoding="utf-8")
    client = FakeClient()

    async def open_client() -> HttpClient:
        return cast("HttpClient", client)

    tokens = GoogleTokens({"HOME": str(tmp_path), "APPDATA": str(file.parents[1])}, open_client)
    headers = await tokens.headers()

    assert headers == {"authorization": f"Bearer {TOKEN}", "x-goog-user-project": "our-own"}
    [(url, body)] = client.requests
    assert url == "https://oauth2.googleapis.com/token"
    assert b"refresh_token=invented-refresh-token" in (body or b"")
    assert set(tokens.secrets) == {TOKEN, "invented-secret", "invented-refresh-token"}


async def test_missing_credentials_are_named_with_two_ways_to_get_them(tmp_path: Path) -> None:
    async with model_server(Reply("3")) as server:
        with pytest.raises(ConfigError) as caught:
            await generate({"HOME": str(tmp_path), **NO_CLOUD}, request_to(server))

    assert str(caught.value).startswith("GOOGLE_APPLICATION_CREDENTIALS is not set")
    assert "gcloud auth application-default login" in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: no such file or directory"),
        ("PRIVATE-STUFF", "is of none of the kinds service_account, authorized_user"),
        ('{"type": "PRIVATE-STUFF"}', "is of none of the kinds"),
        ("[]", "is of none of the kinds"),
        (json.dumps({"type": "service_account"}), "is no usable service_account file"),
        (
            json.dumps({**service_account("http://a.example"), "private_key": "PRIVATE-STUFF"}),
            "is no usable service_account file",
        ),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_but_not_shown(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    async with model_server(Reply("3")) as server:
        with pytest.raises(ConfigError) as caught:
            await generate({"GOOGLE_APPLICATION_CREDENTIALS": str(file)}, request_to(server))

    assert str(caught.value).startswith(f"The credentials file {str(file)!r} {problem}")
    assert "PRIVATE-STUFF" not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "name", "is_retryable"),
    [(400, "BadRequestError", False), (503, "ServiceUnavailableError", True)],
)
async def test_credentials_that_are_refused_are_a_failure_of_the_token_server(
    google: GoogleCloud, status: int, name: str, is_retryable: bool
) -> None:
    google.status = status
    google.answer = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    async with model_server(Reply("3")) as server:
        with pytest.raises(ModelError) as caught:
            await generate(google.environment, request_to(server))

    error = caught.value
    assert (error.name, error.status, error.is_retryable) == (name, status, is_retryable)
    host = google.url.removeprefix("http://")
    assert str(error) == f"{host} answered {status}: Invalid JWT Signature."
    assert (len(google.requests), server.requests) == (1, [])


async def test_a_token_server_that_cannot_be_reached_is_named(google: GoogleCloud) -> None:
    key = service_account("http://127.0.0.1:9/token")
    google.file.write_text(json.dumps(key), encoding="utf-8")
    async with model_server(Reply("3")) as server:
        with pytest.raises(ModelError) as caught:
            await generate(google.environment, request_to(server))

    assert str(caught.value) == "cannot get an access token from 127.0.0.1:9: connection refused"
    assert caught.value.is_retryable


async def test_a_token_that_is_sent_back_is_not_shown(google: GoogleCloud) -> None:
    async with model_server([HttpError(403, f"what is {TOKEN}?")]) as server:
        with pytest.raises(ModelError) as caught:
            await generate(google.environment, request_to(server))

    assert str(caught.value) == "google-vertex answered 403: what is ***?"


async def test_an_authorization_of_the_users_own_needs_no_token(google: GoogleCloud) -> None:
    async with model_server(Reply("3")) as server:
        request = request_to(server, headers={"authorization": "Bearer mine"})
        await generate(google.environment, request)

    assert server.requests[0].headers["authorization"] == "Bearer mine"
    assert google.requests == []


async def test_cancellation_stops_the_wait_for_a_token(google: GoogleCloud) -> None:
    async with model_server(Reply("3")) as server:
        for rounds in range(40):
            model = open_model(definitions=Definitions(), environment=google.environment)
            async with anyio.create_task_group() as group:
                group.start_soon(model.generate, request_to(server), None)
                for _ in range(rounds):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await model.aclose()
        [reply] = await generate(google.environment, request_to(server))

    assert reply.text == "3"


@streamed_or_not
async def test_what_a_model_of_anthropic_is_sent(google: GoogleCloud, is_stream: bool) -> None:
    thinking = ThinkingPart(thinking="one and two", signature="seal")
    conversation = [INSTRUCTION, says("add"), calls("c1", thinking), returns("c1", "3")]
    async with model_server(call("add", a=1)) as server:
        request = request_to(
            server, model="claude-sonnet-4-5@20250929", messages=conversation, budget="low"
        )
        [reply] = await generate(google.environment, request, heard=listener(is_stream=is_stream))

    [made] = reply.tool_calls
    assert (made.tool_name, made.args) == ("add", {"a": 1})
    mark = {"cache_control": {"type": "ephemeral"}}
    [sent] = server.requests
    method = "streamRawPredict" if is_stream else "rawPredict"
    model = "models/claude-sonnet-4-5@20250929"
    assert sent.path == f"{PUBLISHER.replace('google', 'anthropic')}/{model}:{method}"
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert "anthropic-version" not in sent.headers
    assert "model" not in sent.body
    assert sent.body["anthropic_version"] == "vertex-2023-10-16"
    assert sent.body["max_tokens"] == 64_000
    assert sent.body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert sent.body["system"][0] == {"type": "text", "text": "You add.", **mark}
    assert sent.body["messages"][1]["content"][0]["signature"] == "seal"


def test_what_must_be_set_depends_on_what_there_is() -> None:
    def names(environment: dict[str, str], **setting: str) -> list[str]:
        definitions = Definitions.model_validate(
            {"provider": {"providerName": "google-vertex", "setting": setting}}
        )
        return [each.name for each in resolve_models(definitions, environment).variables]

    file, project = "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_VERTEX_PROJECT"
    assert names(NO_CLOUD) == [file, project]
    assert names(NO_CLOUD, project="our-own") == [file]
    assert names({"K_SERVICE": "our-service"}) == [project]
    assert names({file: "key.json", "K_SERVICE": "our-service"}, project="our-own") == [file]
