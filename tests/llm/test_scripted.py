"""The scripted model: replies from a file, chosen by the conversation alone."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from perstack.core.messages import (
    ExpertMessage,
    Message,
    TextPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
)
from perstack.core.typed_io import describe_inputs
from perstack.definition.model import Definitions, Expert
from perstack.errors import ConfigError, ModelError
from perstack.llm.model_factory import OpenModel, open_model
from perstack.runtime.ports import Generation, GenerationRequest
from tests.llm.conversation import INSTRUCTION, Listener, answers, calls, returns, says

pytestmark = pytest.mark.anyio


def scripted(folder: Path, script: dict[str, Any] | str) -> OpenModel:
    name = "script.toml" if isinstance(script, str) else "script.json"
    text = script if isinstance(script, str) else json.dumps(script)
    (folder / name).write_text(text, encoding="utf-8")
    definitions = Definitions.model_validate(
        {
            "path": folder / "perstack.toml",
            "provider": {"providerName": "scripted", "setting": {"script": name}},
        }
    )
    return open_model(definitions=definitions, environment={})


def replies(*items: dict[str, Any]) -> dict[str, Any]:
    return {"experts": {"greeter": list(items)}}


def request(model: OpenModel, *messages: Message, expert: str = "greeter") -> GenerationRequest:
    choice = model.choose(Expert(key=expert, instruction="Greet."))
    return GenerationRequest(
        choice=choice,
        messages=(INSTRUCTION, *messages),
        tools=(),
        conversation_id="run1",
        expert_key=expert,
    )


async def play(model: OpenModel, *messages: Message, expert: str = "greeter") -> Generation:
    return await model.generate(request(model, *messages, expert=expert), None)


async def test_a_toml_script_plays_its_replies_in_order(tmp_path: Path) -> None:
    model = scripted(
        tmp_path,
        """
        [[experts.greeter]]
        text = "Hello."
        toolCalls = [{ name = "readTextFile", args = { path = "a.txt" } }]

        [[experts.greeter]]
        thinking = "Enough."
        text = "Goodbye."
        """,
    )

    first = await play(model, says("hi"))
    second = await play(model, says("hi"), calls("c1"), returns("c1", "x"))

    assert (first.text, first.finish_reason) == ("Hello.", "toolCalls")
    assert [(made.tool_name, made.args) for made in first.tool_calls] == [
        ("readTextFile", {"path": "a.txt"})
    ]
    assert (second.text, second.finish_reason) == ("Goodbye.", "stop")
    assert [part.thinking for part in second.thinking] == ["Enough."]


async def test_another_process_goes_on_where_the_conversation_is(tmp_path: Path) -> None:
    script = replies({"text": "one"}, {"text": "two"})
    await play(scripted(tmp_path, script), says("hi"))

    resumed = await play(scripted(tmp_path, script), says("hi"), answers("one"), says("go on"))

    assert resumed.text == "two"


async def test_a_completed_conversation_goes_on_with_the_next_reply(tmp_path: Path) -> None:
    model = scripted(tmp_path, replies({"text": "one"}, {"text": "two"}))
    completing = ToolCallPart(tool_call_id="c1", tool_name="attemptCompletion", args={})
    accepted = ToolResultPart(
        tool_call_id="c1", tool_name="attemptCompletion", contents=(TextPart(text="{}"),)
    )

    reply = await play(
        model,
        says("x"),
        ExpertMessage(contents=(completing,)),
        ToolMessage(contents=(accepted,)),
        answers("the result"),
        says("and then?"),
    )

    assert reply.text == "two"


async def test_each_expert_has_replies_of_its_own(tmp_path: Path) -> None:
    script = {"experts": {"greeter": [{"text": "hello"}], "@greeter/poet": [{"text": "a rhyme"}]}}
    model = scripted(tmp_path, script)

    assert (await play(model, says("x"), expert="@greeter/poet")).text == "a rhyme"
    assert (await play(model, says("x"))).text == "hello"


async def test_query_and_last_result_are_filled_in_everywhere(tmp_path: Path) -> None:
    args = {"deep": [{"q": "<{{query}}>"}], "n": 3}
    reply = {
        "text": "{{query}} gave {{lastToolResult}}",
        "toolCalls": [{"name": "add", "args": args}],
    }
    model = scripted(tmp_path, replies({}, reply))

    played = await play(model, says("one and two"), calls("c1"), returns("c1", "3"))

    assert played.text == "one and two gave 3"
    assert played.tool_calls[0].args == {"deep": [{"q": "<one and two>"}], "n": 3}


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ('{"output": "7 errors"}', "7 errors"),
        ('{"output": [7]}', "[7]"),
        ('{"error": "NotFound"}', '{"error": "NotFound"}'),
        ("7 errors", "7 errors"),
    ],
)
async def test_a_field_of_the_last_result_is_taken_out_of_it(
    tmp_path: Path, result: str, said: str
) -> None:
    model = scripted(tmp_path, replies({}, {"text": "{{lastToolResult.output}}"}))

    played = await play(model, says("count"), calls("c1"), returns("c1", result))

    assert played.text == said


@pytest.mark.parametrize("before", ["", "Be short.\n\n"])
async def test_an_argument_is_taken_out_of_the_words_of_a_query(
    tmp_path: Path, before: str
) -> None:
    model = scripted(tmp_path, replies({"text": "{{query.name}} is {{query.age}}"}))

    query = before + describe_inputs({"name": "Ada", "age": 36})

    assert (await play(model, says(query))).text == "Ada is 36"


async def test_what_is_filled_in_is_not_filled_in_again(tmp_path: Path) -> None:
    model = scripted(tmp_path, replies({"text": "{{query}}"}))

    assert (await play(model, says("{{lastToolResult}}"))).text == "{{lastToolResult}}"


async def test_calls_have_ids_that_differ_by_place_and_stay_the_same(tmp_path: Path) -> None:
    reply = {"toolCalls": [{"name": "add"}, {"name": "add"}]}
    model = scripted(tmp_path, replies(reply, reply))

    first = await play(model, says("hi"))
    again = await play(model, says("hi"))
    second = await play(model, says("hi"), answers("x"))

    assert first.tool_calls == again.tool_calls
    ids = [made.tool_call_id for made in first.tool_calls + second.tool_calls]
    assert len(set(ids)) == 4


async def test_a_call_may_have_a_fixed_id(tmp_path: Path) -> None:
    script = replies({"toolCalls": [{"name": "ask", "id": "user_name"}, {"name": "ask"}]})

    generation = await play(scripted(tmp_path, script), says("Hi"))

    fixed, made = [call.tool_call_id for call in generation.tool_calls]
    assert fixed == "user_name"
    assert made.startswith("call_")


async def test_a_script_that_has_run_out_says_for_whom_and_where(tmp_path: Path) -> None:
    model = scripted(tmp_path, replies({"text": "one"}))

    with pytest.raises(ModelError, match="no reply 2 for expert 'greeter': it has 1") as caught:
        await play(model, says("hi"), answers("one"))

    assert (caught.value.name, caught.value.is_retryable) == ("ScriptEndedError", False)


async def test_an_expert_without_replies_is_told_apart(tmp_path: Path) -> None:
    model = scripted(tmp_path, replies())

    with pytest.raises(ModelError, match="no reply 1 for expert 'poet': it has none"):
        await play(model, says("hi"), expert="poet")


@pytest.mark.parametrize(
    ("status", "name", "is_retryable"),
    [(429, "RateLimitError", True), (401, "AuthenticationError", False)],
)
async def test_a_scripted_error_is_an_error_of_a_provider(
    tmp_path: Path, status: int, name: str, is_retryable: bool
) -> None:
    error = {"status": status, "retryAfterSeconds": 2, "message": "not now"}
    model = scripted(tmp_path, replies({"error": error}))

    with pytest.raises(ModelError, match="not now") as caught:
        await play(model, says("hi"))

    raised = caught.value
    assert (raised.name, raised.status, raised.is_retryable) == (name, status, is_retryable)
    assert raised.retry_after_seconds == 2.0


async def test_an_error_with_times_gives_way_to_the_reply(tmp_path: Path) -> None:
    model = scripted(tmp_path, replies({"text": "at last", "error": {"status": 500, "times": 2}}))

    for _ in range(2):
        with pytest.raises(ModelError):
            await play(model, says("hi"))

    assert (await play(model, says("hi"))).text == "at last"


async def test_deltas_are_small_pieces_of_the_reply(tmp_path: Path) -> None:
    text = "a text that is longer than one piece"
    model = scripted(tmp_path, replies({"text": text, "thinking": "hm", "delaySeconds": 0.001}))
    heard = Listener()

    await model.generate(request(model, says("hi")), heard)

    assert "".join(heard.texts) == text
    assert len(heard.texts) > 2
    assert heard.thoughts == ["hm"]


async def test_a_reply_that_takes_too_long_times_out(tmp_path: Path) -> None:
    definitions = scripted_definitions(tmp_path, replies({"text": "late", "delaySeconds": 60}))
    model = open_model(definitions=definitions, environment={}, timeout_ms=20)

    with pytest.raises(ModelError) as caught:
        await play(model, says("hi"))

    assert (caught.value.name, caught.value.is_retryable) == ("TimeoutError", True)


async def test_a_slow_reply_can_be_cancelled(tmp_path: Path) -> None:
    model = scripted(tmp_path, replies({"text": "late", "delaySeconds": 60}))

    with anyio.move_on_after(0.02) as scope:
        await play(model, says("hi"))

    assert scope.cancelled_caught


async def test_usage_is_the_scripts_or_an_estimate(tmp_path: Path) -> None:
    usage = {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11}
    model = scripted(tmp_path, replies({"text": "x", "usage": usage}, {"text": "y" * 400}))

    told = await play(model, says("hi"))
    estimated = await play(model, says("hi"), answers("x"))

    assert (told.usage.input_tokens, told.usage.total_tokens) == (5, 11)
    assert estimated.usage.output_tokens >= 100
    assert estimated.usage.total_tokens > estimated.usage.output_tokens


def scripted_definitions(folder: Path, script: dict[str, Any]) -> Definitions:
    (folder / "script.json").write_text(json.dumps(script), encoding="utf-8")
    setting = {"script": "script.json"}
    return Definitions.model_validate(
        {
            "path": folder / "perstack.toml",
            "provider": {"providerName": "scripted", "setting": setting},
        }
    )


def test_the_variable_names_a_script_where_the_file_does_not(tmp_path: Path) -> None:
    script = tmp_path / "other.json"
    script.write_text(json.dumps(replies({"text": "x"})), encoding="utf-8")

    model = open_model(
        definitions=Definitions(), environment={"PERSTACK_SCRIPT": str(script)}, provider="scripted"
    )

    choice = model.choose(Expert(key="greeter", instruction="Greet."))
    assert (choice.provider.provider_name, choice.model) == ("scripted", "scripted")


def test_no_script_at_all_says_where_to_name_one() -> None:
    with pytest.raises(ConfigError, match=r"no script.*\[provider\.setting\].*PERSTACK_SCRIPT"):
        open_model(definitions=Definitions(), environment={}, provider="scripted")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("[[experts", "cannot be read"),
        ('[[experts.a]]\ntxt = "x"', r"experts\.a\.0\.txt"),
        ("[[experts.a]]\ndelaySeconds = -1", r"experts\.a\.0\.delaySeconds"),
    ],
)
def test_a_script_with_a_fault_names_its_place(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"script\.toml: .*{words}"):
        scripted(tmp_path, script)


def test_a_script_that_is_not_there_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nowhere\.json: the script cannot be read: No such file"
    ):
        open_model(
            definitions=Definitions(),
            environment={"PERSTACK_SCRIPT": str(tmp_path / "nowhere.json")},
            provider="scripted",
        )
