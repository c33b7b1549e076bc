"""The tools that providers are shown, and what their calls and the history become."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from perstack.core.messages import ExpertMessage, ToolCallPart, ToolKind
from perstack.core.tools import ToolDefinition
from perstack.definition.model import ProviderName
from perstack.definition.provider_tools import ProviderTools
from perstack.definition.references import BASE_SKILL
from perstack.llm.messages import chat_messages
from perstack.llm.model_factory import OpenModel
from perstack.llm.providers.registry import provider_profile
from perstack.llm.tool_fitting import fit_request
from perstack.runtime.ports import Generation, GenerationRequest
from perstack.tool_names import wire_name
from tests.llm.conversation import ask, provider_at, returns
from tests.llm.endpoint import MODELS, every_provider, listener, provider, streamed_or_not
from tests.model_server import Queue, Reply, Request, call, model_server
from tests.model_server.json_values import JsonObject, as_object, as_text

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
ODATA = ToolDefinition(
    skill_name="graph",
    name="list.messages",
    description="Lists",
    input_schema={
        "type": "object",
        "properties": {
            "$top": {"type": "integer"},
            "options": {"type": "object", "properties": {"sort by": {"type": "string"}}},
        },
    },
)
ARGUMENTS = {"$top": 3, "options": {"sort by": "date", "$skip": 1}}


def offered(request: Request) -> JsonObject:
    """The schemas of the tools in a body of any format, by their names."""
    keys = ("parameters", "input_schema", "parametersJsonSchema", "inputSchema")
    return {
        as_text(node["name"]): as_object(node[key]).get("json", node[key])
        for node in objects_in(request.body.get("tools") or request.body.get("toolConfig"))
        for key in keys
        if key in node
    }


def objects_in(value: object) -> Iterator[JsonObject]:
    if isinstance(value, list):
        for item in cast("list[object]", value):
            yield from objects_in(item)
    elif table := as_object(value):
        yield table
        for item in table.values():
            yield from objects_in(item)


def sent_names(schema: dict[str, Any]) -> dict[str, str]:
    """The names that a provider sees, by the names that they stand for."""
    nested = schema["properties"].values()
    tables = [schema["properties"], *(each.get("properties", {}) for each in nested)]
    return {
        each.get("description", "").strip("`") or name: name
        for table in tables
        for name, each in table.items()
    }


@every_provider
@streamed_or_not
async def test_calls_have_the_names_of_the_tool_here_and_those_of_the_provider_there(
    model: OpenModel, name: ProviderName, *, is_stream: bool
) -> None:
    profile = provider_profile(name).of_model(MODELS[name])
    question = ask(provider_at(name, NOWHERE), model=MODELS[name], tools=(ODATA,))
    [shown] = fit_request(question, profile)[0].tools
    names = sent_names(shown.input_schema)
    called = {names["$top"]: 3, "options": {names["sort by"]: "date", "$skip": 1}}
    replies = Queue([call(shown.name, **called), Reply("3")])
    async with model_server(replies) as server:
        choice = replace(question.choice, provider=provider(server, name))
        question = replace(question, choice=choice)
        reply = await model.generate(question, listener(is_stream=is_stream))
        [made] = reply.tool_calls
        turn = ExpertMessage(contents=(*reply.thinking, made))
        history = (*question.messages, turn, returns(made.tool_call_id, "one"))
        await model.generate(replace(question, messages=history), listener(is_stream=is_stream))

    first, second = server.requests
    assert (made.tool_name, made.args) == ("list.messages", ARGUMENTS)
    assert "$top" not in offered(first)[shown.name]["properties"]
    assert json.dumps(offered(first)) == json.dumps(offered(second))
    [repeated] = [each for turn in second.messages for each in turn.tool_calls]
    assert (repeated.name, repeated.arguments) == (shown.name, called)


def described(count: int, *, skill: str = "big", kind: ToolKind = "mcp") -> list[ToolDefinition]:
    schema: JsonObject = {"type": "object", "properties": {}}
    return [ToolDefinition(skill, f"{skill[-4:]}{n}", "d", schema, kind) for n in range(count)]


def fit(
    tools: Iterable[ToolDefinition], name: ProviderName = "openai", provider_tools: int = 0
) -> GenerationRequest:
    request = ask(provider_at(name, NOWHERE), model=MODELS[name], tools=tuple(tools))
    names = tuple(f"p{n}" for n in range(provider_tools))
    request = replace(request, provider_tools=ProviderTools(names=names))
    return fit_request(request, provider_profile(name).of_model(MODELS[name]))[0]


def test_of_more_tools_than_a_provider_takes_the_last_of_servers_are_left_out_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    base, delegates = described(9, skill=BASE_SKILL), described(3, skill="d", kind="delegate")
    tools = [*base, *described(159), *delegates]

    sent = fit(tools, provider_tools=2).tools
    fit(tools, provider_tools=2)

    assert [each.name for each in sent] == [
        *(each.name for each in base),
        *(f"big{n}" for n in range(128 - 9 - 3 - 2)),
        *(each.name for each in delegates),
    ]
    [warning] = caplog.messages
    assert "openai takes 128 tools at most" in warning
    assert "big114, big115" in warning
    assert "big158" in warning
    assert "big113" not in warning


@pytest.mark.parametrize(
    ("name", "limit"), [("azure-openai", 128), ("deepseek", 128), ("google", 512), ("ollama", 600)]
)
def test_each_provider_has_a_limit_of_its_own(name: ProviderName, limit: int) -> None:
    assert len(fit(described(600), name).tools) == limit


def test_a_hopeless_tool_is_left_out_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = described(2)
    tools = [good, replace(bad, input_schema={"type": "string"})]

    assert [fit(tools).tools[0].name, fit(tools).tools[0].name] == [good.name, good.name]
    assert len(fit(tools).tools) == 1
    [warning] = caplog.messages
    assert warning.startswith("perstack: the tool big1 of the skill big is left out: its arguments")


def test_a_tool_is_fitted_once_for_all_requests_of_a_conversation() -> None:
    tools = [ODATA, *described(2)]

    first = fit(tools)
    other = fit(tools, "google")
    second = fit(tools)

    assert all(one is same for one, same in zip(first.tools, second.tools, strict=True))
    assert not any(one is same for one, same in zip(first.tools, other.tools, strict=True))


def test_a_description_is_cut_where_the_provider_takes_no_longer_one() -> None:
    [tool] = described(1)
    long = replace(tool, description="x" * 1025)

    assert fit([long], "azure-openai").tools[0].description == "x" * 1023 + "…"
    assert fit([long]).tools[0].description == long.description


@pytest.mark.parametrize("name", ["mcp.files/read", "x" * 65, "größe"])
def test_a_name_that_providers_refuse_is_the_same_in_tools_and_history(name: str) -> None:
    tool = ToolDefinition(skill_name="s", name=name, description="", input_schema={})
    made = ToolCallPart(tool_call_id="c1", tool_name=name)

    [sent] = fit([tool]).tools
    [message] = chat_messages([ExpertMessage(contents=(made,))], provider_profile("openai"))

    assert message["tool_calls"][0]["function"]["name"] == sent.name != name


def test_arguments_that_could_not_be_read_keep_their_error() -> None:
    request = ask(provider_at("openai", NOWHERE), model="gpt-5", tools=(ODATA,))
    _, names = fit_request(request, provider_profile("openai"))
    sent = wire_name(ODATA.name)
    part = ToolCallPart(tool_call_id="c1", tool_name=sent, args_error="no JSON")

    [restored] = names.restore(Generation(tool_calls=(part,))).tool_calls

    assert (restored.tool_name, restored.args_error) == (ODATA.name, "no JSON")
