"""What is told of definitions, and what never is."""

import json
from pathlib import Path
from typing import Any

import pytest

from perstack.definition.loader import load_definitions
from perstack.server.auth.scopes import ADMIN, RUN
from perstack.server.caller import Caller
from perstack.server.context import ServerContext
from perstack.server.handlers.resources import read_resource
from perstack.server.resources.definition_documents import definitions_document, expert_document
from perstack.server.resources.uris import ResourceUri
from perstack.server.services import TenantServices
from perstack.server.summaries import Document
from perstack.server.tools.definitions import published_experts
from tests.server.harness import NoLeases

SECRETS = ("s3cret-header", "s3cret-arg", "s3cret-token", "s3cret-option", "s3cret-url")
TOML = """
model = "m1"
[provider]
providerName = "openai"
[provider.setting]
baseUrl = "https://s3cret-url.example.com"
headers = { "X-Key" = "s3cret-header" }

[experts."reader"]
version = "1.2.3"
description = "Reads."
instruction = "Read it all."
tags = ["a"]
delegates = ["other"]
providerTools = ["webSearch"]
[experts."reader".providerToolOptions]
webSearch = { allowedDomains = ["s3cret-option"] }
[experts."reader".skills."local"]
type = "mcpStdioSkill"
command = "python"
args = ["server.py", "--key=s3cret-arg"]
requiredEnv = ["API_KEY"]
pick = ["look"]
[experts."reader".skills."remote"]
type = "mcpSseSkill"
endpoint = "https://api.example.com/mcp?token=s3cret-token"
headers = { "X-Key" = "s3cret-header" }
[experts."reader".skills."ask"]
type = "interactiveSkill"
[experts."reader".skills."ask".tools."askUser"]
description = "Asks."

[experts."other"]
instruction = "Help."
"""


@pytest.fixture
def face(tmp_path: Path) -> ServerContext:
    (tmp_path / "perstack.toml").write_text(TOML, encoding="utf-8")
    definitions = load_definitions(tmp_path / "perstack.toml").definitions
    return ServerContext(
        definitions=lambda: definitions,
        tenants=Closed(),
        problems=lambda: ("perstack.toml:3: broken",),
    )


class Closed(NoLeases):
    """No office is needed for definitions."""

    async def services_for(self, caller: Caller) -> TenantServices:
        raise AssertionError(caller)


def parsed(document: Document) -> dict[str, Any]:
    return json.loads(document.text)


def test_an_expert_is_told_with_its_skills(face: ServerContext) -> None:
    expert = published_experts(face.definitions(), "all")["reader"]
    shown = parsed(expert_document("reader", expert))
    assert shown["instruction"] == "Read it all."
    assert shown["delegates"] == ["other"]
    assert shown["skills"]["local"] == {
        "type": "mcpStdioSkill",
        "command": "python",
        "pick": ["look"],
        "required_env": ["API_KEY"],
    }
    assert shown["skills"]["remote"] == {"type": "mcpSseSkill", "host": "api.example.com"}
    assert shown["skills"]["ask"]["tools"] == {"askUser": "Asks."}


def test_nothing_secret_is_told(face: ServerContext) -> None:
    experts = published_experts(face.definitions(), "all")
    told = definitions_document(face.definitions(), experts).text
    told += "".join(expert_document(name, expert).text for name, expert in experts.items())
    assert "reader" in told
    assert not [secret for secret in SECRETS if secret in told]
    assert "X-Key" not in told


@pytest.mark.anyio
async def test_a_caller_is_told_of_the_experts_that_it_may_call(face: ServerContext) -> None:
    uri = ResourceUri("definitions").text
    some = Caller(scopes=frozenset({f"{RUN}:other"}))
    everything = parsed(await read_resource(face, Caller(), uri))
    narrowed = parsed(await read_resource(face, some, uri))
    assert [expert["tool"] for expert in everything["experts"]] == ["reader", "other"]
    assert [expert["tool"] for expert in narrowed["experts"]] == ["other"]
    assert everything["experts"][0]["uri"] == "perstack://experts/reader"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scopes", "is_told"),
    [(None, True), (frozenset({ADMIN}), True), (frozenset({RUN}), False)],
    ids=["nobody is asked", "an administrator", "a user"],
)
async def test_what_is_wrong_with_an_edit_is_told_to_who_looks_after_the_server(
    face: ServerContext, scopes: frozenset[str] | None, is_told: bool
) -> None:
    document = await read_resource(face, Caller(scopes=scopes), ResourceUri("definitions").text)
    assert ("perstack.toml:3: broken" in document.text) == is_told
