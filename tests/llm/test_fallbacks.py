"""Fallbacks of a definition file: what is checked, who is chosen, and who is asked over HTTP."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from perstack.core import events as ev
from perstack.core.events import RunEvent
from perstack.definition.loader import load_definitions
from perstack.definition.model import Definitions, Expert, ProviderName
from perstack.errors import ConfigError
from perstack.jobs import JobView
from perstack.llm.model_factory import open_model
from perstack.model_resolution import needed_variables, resolve_models
from perstack.replay.runner import replay
from perstack.runtime.start_plan import JobRequest
from tests.definition.sample import problems
from tests.engines import engine_on
from tests.fakes import FakeSkills, HurriedClock, tool
from tests.llm.endpoint import ENVIRONMENT, MODELS, provider
from tests.llm.test_two_step_runs import add
from tests.model_server import HttpError, ModelServer, Queue, Reply, model_server
from tests.model_server import ToolCall as Call

pytestmark = pytest.mark.anyio

EXPERT = Expert(key="a", instruction="Go.")
CHAIN = """
model = "gpt-5"
[provider]
providerName = "openai"
[[fallbacks]]
model = "gpt-5-mini"
[[fallbacks]]
model = "claude-sonnet-4-5"
provider = { providerName = "anthropic", setting = { headers = { X-Team = "b" } } }
[experts.a]
instruction = "Go."
"""
ADDS = Reply(
    text="I add.",
    thinking="One and two.",
    signature="seal",
    tool_calls=(Call("add", {"a": 1}, id="c1"),),
)


def definitions_of(folder: Path, text: str = CHAIN) -> Definitions:
    (folder / "perstack.toml").write_text(text, encoding="utf-8")
    return load_definitions(folder / "perstack.toml").definitions


def chosen(
    folder: Path, *, environment: Mapping[str, str] = ENVIRONMENT, **overrides: Any
) -> list[tuple[str, str]]:
    model = open_model(definitions=definitions_of(folder), environment=environment, **overrides)
    choice = model.choose(EXPERT)
    return [(each.provider.provider_name, each.model) for each in (choice, *choice.fallbacks)]


def test_the_models_of_a_file_stand_in_in_order(tmp_path: Path) -> None:
    assert chosen(tmp_path) == [
        ("openai", "gpt-5"),
        ("openai", "gpt-5-mini"),
        ("anthropic", "claude-sonnet-4-5"),
    ]


def test_a_fallback_has_the_facts_and_settings_of_its_own_provider(tmp_path: Path) -> None:
    model = open_model(definitions=definitions_of(tmp_path), environment=ENVIRONMENT)
    claude = model.choose(EXPERT).fallbacks[1]
    assert claude.provider.setting.headers == {"X-Team": "b"}
    assert claude.facts.price is not None
    assert claude.facts.price.input == 3.0


@pytest.mark.parametrize(
    "overrides", [{"model": "gpt-5"}, {"provider": "openai"}, {"provider": "anthropic"}]
)
def test_a_caller_who_chooses_gets_what_they_chose_and_no_other(
    tmp_path: Path, overrides: dict[str, Any]
) -> None:
    assert len(chosen(tmp_path, **overrides)) == 1


def test_a_key_that_a_fallback_lacks_is_named_before_anything_begins(tmp_path: Path) -> None:
    environment = {"OPENAI_API_KEY": "invented-o"}
    expected = r"the fallback claude-sonnet-4-5 cannot be used: ANTHROPIC_API_KEY is not set"
    with pytest.raises(ConfigError, match=expected):
        chosen(tmp_path, environment=environment)


def test_the_variables_of_fallbacks_are_known_without_a_start(tmp_path: Path) -> None:
    definitions = definitions_of(tmp_path)
    [mini, claude] = resolve_models(definitions, {"OPENAI_API_KEY": "invented-o"}).fallbacks
    assert [(each.name, each.is_set) for each in mini.variables] == [("OPENAI_API_KEY", True)]
    assert [(each.name, each.is_set) for each in claude.variables] == [("ANTHROPIC_API_KEY", False)]
    assert needed_variables(definitions, {}) == ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ('[[fallbacks]]\nmodle = "m"', "fallbacks[0].model"),
        ('[[fallbacks]]\nmodel = "m"\nprovider = { providerName = "nobody" }', "providerName"),
        (
            (
                '[[fallbacks]]\nmodel = "m"\n'
                'provider = { providerName = "ollama", setting = { region = "eu" } }'
            ),
            "fallbacks[0].provider.setting.region",
        ),
        (
            '[[fallbacks]]\nmodel = "m"\nprovider = { providerName = "scripted" }',
            "scripted stands in for no other provider",
        ),
        (
            (
                '[[fallbacks]]\nmodel = "m"\nprovider = { providerName = "ollama" }\n'
                '[experts.b]\ninstruction = "Go."\nproviderTools = ["webSearch"]'
            ),
            "ollama has no tools of its own",
        ),
    ],
)
def test_what_is_wrong_with_a_fallback_is_an_error_of_the_file(
    tmp_path: Path, written: str, problem: str
) -> None:
    text = f'{written}\n[experts.a]\ninstruction = "Go."\n'
    assert [each for each in problems(tmp_path, text) if problem in each]


async def run(
    folder: Path, first: ModelServer, second: ModelServer, names: tuple[ProviderName, ProviderName]
) -> tuple[JobView, Sequence[RunEvent]]:
    """A job of an expert with two providers, which is replayed as well."""
    name, other = names
    urls = [
        provider(server, each).setting.base_url
        for server, each in zip((first, second), names, strict=True)
    ]
    toml = (
        f'model = "{MODELS[name]}"\nmaxRetries = 1\nreasoningBudget = "low"\n'
        f'[provider]\nproviderName = "{name}"\nsetting.baseUrl = "{urls[0]}"\n'
        f'[[fallbacks]]\nmodel = "{MODELS[other]}"\n'
        f'provider = {{ providerName = "{other}", setting.baseUrl = "{urls[1]}" }}\n'
        '[experts."adder"]\ninstruction = "Add."\n'
    )
    async with engine_on(
        folder,
        None,
        toml=toml,
        skills=FakeSkills(add, (tool("add"),)),
        clock=HurriedClock(),
        environment=ENVIRONMENT,
    ) as engine:
        job = await engine.start(JobRequest(expert_key="adder", query="1+2"))
        view = await job.wait()
        events = [event for event, _ in await engine.history(job.job_id)]
        assert (await replay(events, engine.definitions)).divergence is None
    return view, events


async def test_another_provider_answers_when_the_first_fails_again_and_again(
    tmp_path: Path,
) -> None:
    async with (
        model_server(Queue([HttpError(503), HttpError(503)])) as first,
        model_server(Queue([ADDS, Reply("3")])) as second,
    ):
        view, events = await run(tmp_path, first, second, ("openai", "anthropic"))
    assert (view.job.status, view.text) == ("completed", "3")
    assert view.checkpoint.model == "claude-sonnet-4-5"
    assert [request.path for request in first.requests] == ["/v1/chat/completions"] * 2
    assert [request.path for request in second.requests] == ["/v1/messages"] * 2
    assert [each.fallback for each in events if isinstance(each, ev.Retry)] == [
        None,
        ev.ModelRef(provider="anthropic", model="claude-sonnet-4-5", context_window=200_000),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("anthropic", "openai"),
        ("anthropic", "google"),
        ("google", "anthropic"),
        ("google", "amazon-bedrock"),
    ],
    ids="-".join,
)
async def test_what_the_first_model_did_is_shown_to_the_next_without_its_signatures(
    tmp_path: Path, names: tuple[ProviderName, ProviderName]
) -> None:
    async with (
        model_server(Queue([ADDS, HttpError(529), HttpError(529)])) as first,
        model_server(Queue([Reply("3")])) as second,
    ):
        view, _ = await run(tmp_path, first, second, names)
    assert (view.job.status, view.text) == ("completed", "3")
    assert "seal" in str(first.requests[-1].body)
    [request] = second.requests
    assert "I add." in str(request.body)
    assert "seal" not in str(request.body)


async def test_a_script_plays_for_the_models_that_stand_in_too(tmp_path: Path) -> None:
    script = '[[experts.a]]\ntext = "here"\nerror = { status = 503, times = 2 }\n'
    (tmp_path / "script.toml").write_text(script, encoding="utf-8")
    toml = CHAIN.replace('"openai"', '"scripted"\nsetting.script = "script.toml"')
    toml = f"maxRetries = 0\n{toml}"
    async with engine_on(tmp_path, None, toml=toml, clock=HurriedClock()) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        view = await job.wait()
    assert (view.text, view.checkpoint.model) == ("here", "claude-sonnet-4-5")
