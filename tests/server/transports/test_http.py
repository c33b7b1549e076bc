"""A server on HTTP: where it listens, whom it answers, and how it ends."""

import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from perstack.errors import ConfigError
from perstack.server.bootstrap import ServerOptions
from perstack.server.transports.http import HttpOptions, serve_http
from perstack.server.transports.sockets import HostPort, bind, is_loopback, resolve
from perstack.settings import Settings
from tests.server.transports.in_process import ANY_PORT, JSON, TOML, Place, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Place]:
    """One server for all tests that need nothing special of it."""
    async with serving(tmp_path_factory.mktemp("served")) as one:
        yield one


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_anyone_may_ask_whether_it_is_alive(place: Place, method: str) -> None:
    answer = await place.http.request(method, "/health", headers={"host": "10.0.0.7"})
    assert answer.status_code == 200
    assert answer.text == ("alive\n" if method == "GET" else "")


async def test_it_is_ready_once_the_engine_is_open(place: Place) -> None:
    with anyio.fail_after(30):
        while (answer := await place.http.get("/ready")).status_code != 200:
            assert (answer.status_code, answer.text) == (503, "opening\n")
    assert answer.text == "ready\n"


async def test_it_is_not_ready_without_a_workspace_and_does_not_say_where_that_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "perstack").write_text("in the way", encoding="utf-8")
    async with serving(tmp_path) as place:
        while (answer := await place.http.get("/ready")).text == "opening\n":
            continue
        alive = await place.http.get("/health")
    assert (answer.status_code, alive.status_code) == (503, 200)
    assert str(tmp_path) not in answer.text
    assert str(tmp_path) in caplog.text


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/messages/"])
async def test_other_hosts_and_pages_of_other_origins_are_refused(place: Place, path: str) -> None:
    method = "GET" if path == "/sse" else "POST"
    host = await place.http.request(method, path, headers={"host": "evil.example"})
    page = await place.http.request(method, path, headers={"origin": "http://evil.example"})
    port = await place.http.request(method, path, headers={"host": "localhost:1"})
    assert (host.status_code, page.status_code, port.status_code) == (421, 403, 421)
    assert "--allowed-host" in host.text
    assert "--allowed-origin" in page.text


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/sse/", "/ready/", "/messages"])
async def test_nobody_is_sent_elsewhere(place: Place, path: str) -> None:
    response = await place.http.post(path, headers={**JSON, "host": "evil.example"}, json={})
    assert response.status_code in (404, 421)


async def test_the_address_may_end_with_a_slash(place: Place) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    plain = await place.http.post("/mcp", headers=JSON, json=asked)
    slashed = await place.http.post("/mcp/", headers=JSON, json=asked)
    assert (slashed.status_code, slashed.text) == (plain.status_code, plain.text)


async def test_hosts_that_were_named_are_let_in(tmp_path: Path) -> None:
    options = HttpOptions(
        address=ANY_PORT,
        allowed_hosts=("perstack.example", "other.example:1"),
        allowed_origins=("https://page.example",),
    )
    async with serving(tmp_path, options) as place:
        answers = [
            await place.http.post(
                "/mcp",
                content="nonsense",
                headers={**JSON, "host": host, "origin": "https://page.example"},
            )
            for host in ("perstack.example", "perstack.example:8443", "other.example:1")
        ]
    assert [answer.status_code for answer in answers] == [400, 400, 400]


async def test_pages_of_an_origin_that_was_named_may_ask_and_read_and_no_others(
    tmp_path: Path,
) -> None:
    named, other = "https://page.example", "https://evil.example"
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "x-any"}
    options = HttpOptions(address=ANY_PORT, allowed_origins=(named,))
    async with serving(tmp_path, options) as place:
        may = await place.http.options("/mcp", headers={"origin": named, **asking})
        may_not = await place.http.options("/mcp", headers={"origin": other, **asking})
        answer = await place.http.post(
            "/mcp", content="nonsense", headers={**JSON, "origin": named}
        )
    assert (may.status_code, may_not.status_code) == (200, 400)
    assert may.headers["access-control-allow-origin"] == named
    assert may.headers["access-control-allow-headers"] == "x-any"
    assert answer.headers["access-control-allow-origin"] == named
    assert "mcp-session-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in may_not.headers


async def test_without_such_an_origin_no_page_is_told_that_it_may_read(place: Place) -> None:
    own = {**JSON, "origin": place.origin}
    answer = await place.http.post("/mcp", content="nonsense", headers=own)
    assert answer.status_code == 400
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/mcp", "/messages/?session_id=" + "0" * 32])
async def test_a_body_that_is_too_large_is_refused(place: Place, path: str) -> None:
    answer = await place.http.post(path, content=b" " * (4 * 1024 * 1024 + 1), headers=JSON)
    assert answer.status_code == 413


async def test_the_older_transport_is_there_on_request_only(tmp_path: Path) -> None:
    async with serving(tmp_path, HttpOptions(address=ANY_PORT)) as place:
        answers = [await place.http.get("/sse"), await place.http.post("/messages/")]
    assert [answer.status_code for answer in answers] == [404, 404]


async def test_a_port_that_is_taken_is_a_readable_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = HostPort("127.0.0.1", other.getsockname()[1])
        with (
            pytest.raises(ConfigError, match=rf"{taken} is already in use"),
            bind(taken),
        ):
            raise AssertionError("there are two at one port")


async def test_an_unknown_host_is_a_readable_error() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.invalid:80 cannot be listened on"):
        resolve(HostPort("nowhere.invalid", 80))


async def test_an_address_that_others_reach_is_refused_without_a_word_on_who_may(
    tmp_path: Path,
) -> None:
    (tmp_path / "perstack.toml").write_text(TOML, encoding="utf-8")
    settings = Settings(config=tmp_path / "perstack.toml", environment={})
    options = HttpOptions(address=HostPort("0.0.0.0", 0))  # noqa: S104 - it is refused
    with pytest.raises(ConfigError, match="--allow-unauthenticated"):
        await serve_http(settings, ServerOptions(), options, lambda _url: None)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("::", False)],
)
def test_only_this_machine_reaches_loopback(host: str, expected: bool) -> None:
    assert is_loopback(HostPort(host, 80)) is expected


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_it_listens_on_the_newer_kind_of_address_too(tmp_path: Path) -> None:
    async with serving(tmp_path, HttpOptions(address=HostPort("::1", 0))) as place:
        answer = await place.http.post("/mcp", content="nonsense", headers=JSON)
    assert place.origin.startswith("http://[::1]:")
    assert answer.status_code == 400
