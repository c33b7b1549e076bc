"""Who is let in over HTTP, what they find there, and what they can do."""

from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from perstack.runtime.ports import SystemClock
from perstack.server.auth.config import AuthOptions
from perstack.server.auth.provider import BearerAuth, create_auth
from perstack.server.auth.token_file import TokenFileVerifier
from tests.server.auth.serving import Place, add_tokens, by_tokens, serving, token_of
from tests.server.auth.signing import Issuer, key_set, public_jwk
from tests.server.harness import Mode, facts, texts

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
TRANSPORTS = pytest.mark.parametrize("is_sse", [False, True], ids=["http", "sse"])


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def request(method: str, params: dict[str, object]) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 2, "method": method, "params": params}


async def called(client: Client, tool: str, **arguments: object) -> CallToolResult:
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    return result


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Place]:
    """One server for the tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("served")
    async with serving(folder, by_tokens(folder)) as one:
        yield one


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer x", "Basic YTpi", "pst_alice"]
)
async def test_whoever_has_no_token_is_told_so_and_nothing_else(
    place: Place, authorization: str | None
) -> None:
    headers = JSON if authorization is None else {**JSON, "authorization": authorization}
    async with place.http() as http:
        answers = [
            await http.request(method, path, headers=headers, content="{}")
            for method, path in (
                ("POST", "/mcp"),
                ("GET", "/mcp"),
                ("DELETE", "/mcp"),
                ("GET", "/sse"),
                ("POST", "/messages/?session_id=0"),
            )
        ]
        probes = [await http.get(path, headers=headers) for path in ("/health", "/ready")]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.text for answer in answers} == {
        '{"error": "invalid_token", "error_description": "Authentication required"}'
    }
    assert answers[0].headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert [probe.status_code for probe in probes] == [200, 200]


async def test_a_token_without_a_required_scope_is_told_which(tmp_path: Path) -> None:
    auth = by_tokens(tmp_path, "perstack:run")
    async with serving(tmp_path, auth) as place, place.http("carol") as carol:
        refused = await carol.post("/mcp", headers=JSON, content="{}")
        async with place.http("alice") as alice:
            let_in = await alice.post("/mcp", headers=JSON, content="{}")
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert "perstack:run" in refused.headers["www-authenticate"]
    assert let_in.status_code == 400


async def test_clients_of_an_oauth_issuer_are_told_where_it_is(tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_bytes(key_set(public_jwk("ES256")))
    resource = "https://perstack.example/mcp"
    auth = create_auth(
        AuthOptions(kind="jwt", issuer="https://issuer.example", resource=resource, jwks=str(keys))
    )
    assert auth is not None
    async with serving(tmp_path, auth) as place, place.http() as http:
        refused = await http.post("/mcp", headers=JSON, content="{}")
        described = await http.get("/.well-known/oauth-protected-resource/mcp")
        issuer = Issuer(SystemClock().now_ms() / 1000)
        tokens = [issuer.token(), issuer.token(aud="https://other.example/mcp")]
        answers = [
            await http.post(
                "/mcp", headers={**JSON, "authorization": f"Bearer {one}"}, content="{}"
            )
            for one in tokens
        ]
    metadata = "https://perstack.example/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="{metadata}"' in refused.headers["www-authenticate"]
    assert described.json()["resource"] == resource
    assert described.json()["authorization_servers"] == ["https://issuer.example"]
    assert "perstack:run" in described.json()["scopes_supported"]
    assert [answer.status_code for answer in answers] == [400, 401]


@TRANSPORTS
async def test_a_user_finds_their_own_jobs_only(place: Place, mode: Mode, *, is_sse: bool) -> None:
    async with (
        place.client("alice", mode, is_sse=is_sse) as alice,
        place.client("bob", mode, is_sse=is_sse) as bob,
    ):
        ids = [facts(await called(one, "reader", query="q"))["job_id"] for one in (alice, bob)]
        lists = [facts(await called(one, "perstack_jobs"))["jobs"] for one in (alice, bob)]
        foreign = await called(bob, "perstack_job", job_id=ids[0])
        absent = await called(bob, "perstack_job", job_id="a" * 24)
    found = [{job["job_id"] for job in jobs} & set(ids) for jobs in lists]
    assert found == [{ids[0]}, {ids[1]}]
    assert foreign.is_error
    assert texts(foreign)[0].replace(ids[0], "ID") == texts(absent)[0].replace("a" * 24, "ID")


@TRANSPORTS
async def test_a_user_finds_the_tools_that_their_scopes_allow(
    place: Place, mode: Mode, *, is_sse: bool
) -> None:
    names: dict[str, list[str]] = {}
    for name in ("alice", "carol", "dora"):
        async with place.client(name, mode, is_sse=is_sse) as client:
            names[name] = [tool.name for tool in (await client.list_tools()).tools]
    assert names["alice"][:3] == ["reader", "writer", "waiter"]
    assert names["carol"] == ["writer"]
    assert names["dora"] == ["perstack_job", "perstack_jobs"]


async def test_a_tool_without_its_scope_is_refused_like_one_that_is_not_there(
    place: Place, mode: Mode
) -> None:
    async with place.client("carol", mode) as carol:
        refusals: list[str] = []
        for tool in ("reader", "nobody", "perstack_jobs", "perstack_cancel"):
            with pytest.raises(MCPError) as refused:
                await called(carol, tool, query="q")
            refusals.append(refused.value.error.model_dump_json().replace(tool, "TOOL"))
        written = await called(carol, "writer", query="q")
    assert len(set(refusals)) == 1
    assert "The experts are: writer." in refusals[0]
    assert texts(written)[0] == "Written."


INTRODUCTION: dict[str, object] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "1"},
}
BEGIN = request("initialize", INTRODUCTION)


def in_session(session: str) -> dict[str, str]:
    return {**JSON, "mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}


async def test_a_session_belongs_to_whoever_began_it(place: Place) -> None:
    listing = request("tools/call", {"name": "perstack_jobs", "arguments": {}})
    async with place.http("alice") as alice, place.http("bob") as bob:
        begun = await alice.post("/mcp", json=BEGIN, headers=JSON)
        session = begun.headers["mcp-session-id"]
        foreign = [
            await bob.request(method, "/mcp", json=listing, headers=in_session(session))
            for method in ("POST", "DELETE")
        ]
        absent = [
            await bob.request(method, "/mcp", json=listing, headers=in_session("0" * 32))
            for method in ("POST", "DELETE")
        ]
        own = await alice.post("/mcp", json=listing, headers=in_session(session))
    assert own.status_code == 200
    assert [(one.status_code, one.content) for one in foreign] == [
        (one.status_code, one.content) for one in absent
    ]
    assert foreign[0].status_code == 404


async def test_a_users_next_token_counts_in_the_same_session_with_its_own_scopes(
    tmp_path: Path,
) -> None:
    path = add_tokens(tmp_path, "alice")
    more = '\n[[token]]\nprincipal = "alice"\nscopes = ["perstack:run:writer"]\nsha256 = "{}"\n'
    with path.open("a", encoding="utf-8") as file:
        file.write(more.format(sha256(b"pst_narrow").hexdigest()))
    auth = BearerAuth(verifier=TokenFileVerifier(path, SystemClock()))
    async with serving(tmp_path, auth) as place, place.http("alice") as alice:
        begun = await alice.post("/mcp", json=BEGIN, headers=JSON)
        headers = in_session(begun.headers["mcp-session-id"])
        listing = request("tools/list", {})
        wide = await alice.post("/mcp", json=listing, headers=headers)
        narrow = await alice.post(
            "/mcp", json=listing, headers={**headers, **bearing("pst_narrow")}
        )
    assert '"reader"' in wide.text
    assert '"reader"' not in narrow.text
    assert '"writer"' in narrow.text


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_users_files_are_apart_and_closed_to_others(place: Place) -> None:
    async with place.client("alice") as alice, place.client("bob") as bob:
        for one in (alice, bob):
            await called(one, "reader", query="q")
    principals = place.folder / "perstack" / "principals"
    names = sorted(files(principals))
    assert {"alice", "bob"} <= {name.rpartition("-")[0] for name in names}
    assert not (place.folder / "perstack" / "store.db").exists()
    for name in names:
        home = principals / name
        assert home.stat().st_mode & 0o777 == 0o700
        stored = (home / "workspace" / "perstack" / "store.db").read_bytes()
        assert token_of("alice").encode() not in stored
