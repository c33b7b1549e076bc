"""Runs of two steps on every provider: what the second request repeats, and what a run keeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import (
    ImageInlinePart,
    TextPart,
    ToolCall,
    ToolResult,
    tool_result,
)
from perstack.core.transient_events import PerstackEvent, StreamRunResult
from perstack.definition.model import ProviderName
from perstack.jobs import JobView
from perstack.runtime.start_plan import JobRequest
from tests.engines import engine_on
from tests.fakes import FakeSkills, tool
from tests.llm.endpoint import ENVIRONMENT, MODELS, provider
from tests.llm.google_cloud import google_cloud
from tests.llm.provider_replies import (
    CLAUDE_SEARCHES,
    FOUND,
    GEMINI_IS_GROUNDED,
    GEMINI_SEARCHES,
    GPT_SEARCHES,
    PIXEL,
    SEARCH,
    claude,
    gpt,
)
from tests.llm.two_step_bodies import BODIES
from tests.model_server import Queue, Reply, Request, Usage, Verbatim, model_server
from tests.model_server import ToolCall as Call

pytestmark = pytest.mark.anyio

Step = Reply | Verbatim

ADDS = Reply(
    text="I add.",
    thinking="One and two.",
    signature="seal",
    tool_calls=(Call("add", {"a": 1}, id="c1"),),
)
CACHED = Usage(input_tokens=20, output_tokens=3, cached_tokens=5)
ASKED: dict[ProviderName, tuple[str, Step]] = {
    "amazon-bedrock": ("", ADDS),
    "anthropic": ('providerTools = ["webSearch"]', CLAUDE_SEARCHES),
    "azure-openai": ('providerTools = ["webSearchPreview"]', GPT_SEARCHES),
    "deepseek": ("", ADDS),
    "fireworks": ("", ADDS),
    "google": ('providerTools = ["googleSearch", "codeExecution"]', GEMINI_SEARCHES),
    "google-vertex": ('providerTools = ["enterpriseWebSearch"]', GEMINI_IS_GROUNDED),
    "ollama": ("", ADDS),
    "openai": ('providerTools = ["webSearch", "imageGeneration"]', GPT_SEARCHES),
}
"""What the expert asks of its provider, and what that says first."""


def add(call: ToolCall) -> ToolResult:
    image = ImageInlinePart(encoded_data=PIXEL, mime_type="image/png")
    return tool_result(call, (TextPart(text="3"), image))


async def run(
    folder: Path, name: ProviderName, fields: str, *steps: Step
) -> tuple[JobView, list[Request], str]:
    """A streamed job of an expert whose provider says this, and the text that was streamed."""
    pieces: list[str] = []

    def listen(event: PerstackEvent, _checkpoint: Checkpoint | None) -> None:
        if isinstance(event, StreamRunResult):
            pieces.append(event.delta)

    skills = FakeSkills(add, (tool("add"),))
    async with model_server(Queue(steps)) as server:
        at = provider(server, name)
        toml = (
            f'model = "{MODELS[name]}"\nreasoningBudget = "low"\n'
            f'[provider]\nproviderName = "{name}"\n'
            f'[provider.setting]\nbaseUrl = "{at.setting.base_url}"\n'
            f'[experts."adder"]\ninstruction = "Add."\n{fields}\n'
        )
        with google_cloud() as cloud:
            async with engine_on(
                folder,
                None,
                toml=toml,
                skills=skills,
                is_streaming=True,
                environment={**ENVIRONMENT, **cloud.environment},
            ) as engine:
                job = await engine.start(JobRequest(expert_key="adder", query="1 and 2?"), listen)
                view = await job.wait()
    return view, list(server.requests), "".join(pieces)


def shown(value: object) -> Any:
    """A body with its long texts, which tests of the prompt look at, cut away."""
    match value:
        case dict():
            return {name: shown(each) for name, each in cast("dict[str, object]", value).items()}
        case list():
            return [shown(each) for each in cast("list[object]", value)]
        case str() if len(value) > 300 or value.startswith("# Environment"):
            return "..."
        case _:
            return value


def turns(body: Mapping[str, Any]) -> list[Any]:
    """The turns of a conversation, without the marks of what is cached."""
    [found] = [body[name] for name in ("messages", "input", "contents") if name in body]
    return without_marks(found)


def without_marks(value: object) -> Any:
    match value:
        case dict():
            items = cast("dict[str, object]", value).items()
            return {name: without_marks(each) for name, each in items if name != "cache_control"}
        case list():
            return [without_marks(each) for each in cast("list[object]", value)]
        case _:
            return value


@pytest.mark.parametrize("name", ASKED)
async def test_the_second_request_repeats_the_first_and_adds_to_it(
    tmp_path: Path, name: ProviderName
) -> None:
    fields, first_reply = ASKED[name]

    view, [first, second], streamed = await run(
        tmp_path, name, fields, first_reply, Reply(text="It is 3.", usage=CACHED)
    )

    assert (view.job.status, view.text) == ("completed", "It is 3.")
    assert streamed.endswith("It is 3.")
    assert shown(second.body) == BODIES[name]
    rest = {"messages", "input", "contents"}
    assert {key: first.body[key] for key in first.body if key not in rest} == {
        key: second.body[key] for key in first.body if key not in rest
    }
    earlier = turns(first.body)
    assert turns(second.body)[: len(earlier)] == earlier
    assert view.usage.cached_input_tokens == (0 if name == "ollama" else 5)


async def test_a_turn_that_was_paused_goes_on_where_it_was(tmp_path: Path) -> None:
    container = {"id": "container_1", "expires_at": "2030-01-01T00:00:00Z"}
    thinking = {"type": "thinking", "thinking": "I must look.", "signature": "seal"}
    said = {"type": "text", "text": "I look. "}
    paused = claude(thinking, said, SEARCH, stop="pause_turn", container=container)
    rest = claude(FOUND, {"type": "text", "text": "It is hot."})

    view, [first, second], streamed = await run(
        tmp_path, "anthropic", 'providerTools = ["webSearch"]', paused, rest
    )

    assert (view.job.status, view.text) == ("completed", "I look. It is hot.")
    assert streamed == view.text
    assert turns(second.body) == [
        *turns(first.body),
        {"role": "assistant", "content": [thinking, said, SEARCH]},
    ]
    assert second.body["container"] == "container_1"
    assert view.usage.input_tokens == 20


async def test_an_image_that_a_model_made_is_kept_beside_its_answer(tmp_path: Path) -> None:
    drawn = gpt({"type": "image_generation_call", "id": "ig1", "result": PIXEL})

    view, [_], _ = await run(tmp_path, "openai", 'providerTools = ["imageGeneration"]', drawn)

    assert view.text == "[content of type image/png]"
    assert view.checkpoint.media == (ImageInlinePart(encoded_data=PIXEL, mime_type="image/png"),)
