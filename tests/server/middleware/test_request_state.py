"""The key that seals what clients bring back, and how long a seal is good."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from mcp import Client, MCPError
from mcp_types import ElicitResult, InputRequiredResult

from perstack.errors import PerstackError
from perstack.server.app import build_server
from perstack.server.caller import Caller
from perstack.server.context import ServerContext
from perstack.server.middleware import request_state
from perstack.server.services import KEY_BYTES, KEY_FILE, TenantServices, request_state_key
from tests.engines import engine_on
from tests.fakes import FakeModel, call, calls
from tests.server.harness import NoLeases, stage, texts
from tests.server.tenants.harness import User


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "perstack"

    first = request_state_key(folder)

    assert len(first) == KEY_BYTES
    assert request_state_key(folder) == first
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_each_workspace_has_its_own_key(tmp_path: Path) -> None:
    assert request_state_key(tmp_path / "a") != request_state_key(tmp_path / "b")


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 64])
def test_a_damaged_key_is_replaced(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(damage)

    key = request_state_key(tmp_path)

    assert len(key) == KEY_BYTES
    assert (tmp_path / KEY_FILE).read_bytes() == key


def test_where_no_key_can_be_kept_one_is_good_for_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()

    key = request_state_key(tmp_path / "file" / "perstack")

    assert len(key) == KEY_BYTES
    assert "cannot be kept" in caplog.text


@pytest.mark.anyio
async def test_an_answer_that_comes_after_a_day_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_state, "VALID_SECONDS", 1e-6)
    model = FakeModel({"reviewer": [calls(call("askUser", "q1", question="Which?"))]})
    async with stage(tmp_path, "auto", model, user=User()) as here:
        session, arguments = here.client.session, {"query": "paint"}
        asked = await session.call_tool("reviewer", arguments, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        with pytest.raises(MCPError, match="came too late") as refused:
            await session.call_tool(
                "reviewer",
                arguments,
                input_responses={"q1": ElicitResult(action="decline")},
                request_state=asked.request_state,
            )
    assert refused.value.code == -32602


@dataclass
class ClosingServices(NoLeases):
    """An office that closes once it has been asked for."""

    services: TenantServices
    is_open: bool = True

    async def services_for(self, caller: Caller) -> TenantServices:
        if not self.is_open:
            raise PerstackError("perstack is shutting down.")
        self.is_open = False
        return self.services


@pytest.mark.anyio
async def test_a_question_that_comes_when_the_server_ends_is_a_readable_error(
    tmp_path: Path,
) -> None:
    model = FakeModel({"reviewer": [calls(call("askUser", "q1", question="Which?"))]})
    async with engine_on(tmp_path, model) as engine:
        offices = ClosingServices(TenantServices(engine))
        server = build_server(
            ServerContext(definitions=lambda: engine.definitions, tenants=offices)
        )
        async with Client(server, elicitation_callback=User()) as client:
            result = await client.call_tool("reviewer", {"query": "paint"})
    assert result.is_error
    assert texts(result) == ["perstack is shutting down."]
