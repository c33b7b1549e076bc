"""What a caller gets for a cursor or a name that is not of this server."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PromptReference, ResourceTemplateReference

from tests.fakes import FakeModel
from tests.server.harness import Mode, stage

pytestmark = pytest.mark.anyio

MARKUP = "<script>alert(1)</script>"

LISTS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "tools": lambda client: client.list_tools(cursor="7x"),
    "prompts": lambda client: client.list_prompts(cursor="7x"),
    "resources": lambda client: client.list_resources(cursor="7x"),
    "templates": lambda client: client.list_resource_templates(cursor="7x"),
}
LOOKUPS: dict[str, Callable[[Client, str], Awaitable[Any]]] = {
    "tool": lambda client, name: client.call_tool(name, {}),
    "prompt": lambda client, name: client.get_prompt(name, {}),
    "prompt to complete": lambda client, name: client.complete(
        PromptReference(name=name), {"name": "query", "value": ""}
    ),
    "template to complete": lambda client, name: client.complete(
        ResourceTemplateReference(uri=name), {"name": "job_id", "value": ""}
    ),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_that_no_list_gave_is_refused(tmp_path: Path, mode: Mode, name: str) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        with pytest.raises(MCPError, match="begin without one") as caught:
            await LISTS[name](here.client)
    assert caught.value.code == INVALID_PARAMS


@pytest.mark.parametrize("name", LOOKUPS)
async def test_a_name_is_repeated_only_if_it_can_be_one(
    tmp_path: Path, mode: Mode, name: str
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        with pytest.raises(MCPError, match="nobody"):
            await LOOKUPS[name](here.client, "nobody")
        with pytest.raises(MCPError) as caught:
            await LOOKUPS[name](here.client, MARKUP)
    assert "script" not in str(caught.value)
