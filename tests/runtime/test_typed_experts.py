"""Experts that declare what they take and what they answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from perstack.core.checkpoint import Checkpoint
from perstack.core.machine import fold, initial_checkpoint
from perstack.core.messages import TextPart, ToolMessage, UserMessage
from perstack.definition.expert_tool import ExpertTool
from perstack.definition.model import Definitions, Expert, McpStdioSkill
from perstack.definition.references import BASE_SKILL
from perstack.runtime.ports import Generation, GenerationRequest
from perstack.runtime.prompt import WorkspaceInfo, instruction_message
from tests.fakes import FakeModel, FakeStore, call, calls, done, job_context, says
from tests.runtime.acting import go_on, work

pytestmark = pytest.mark.anyio

INVOICE = {
    "type": "object",
    "properties": {
        "total": {"type": "number"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "required": ["total"],
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "required": ["amount"]}},
}
GOOD = {"total": 3, "lines": [{"amount": 1}]}
COMPACT = '{"total":3,"lines":[{"amount":1}]}'
PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}

MISFITS: list[tuple[Any, str]] = [
    ({"total": "3"}, "result.total must be a number"),
    ({"lines": [{}]}, "result.lines[0].amount is missing; result.total is missing"),
    ({"total": 1, "tax": 2}, "result.tax is unknown"),
    ("three", "result must be an object"),
    (f"```json\n{COMPACT}\n```\n```json\n{COMPACT}\n```", "result must be an object"),
]


def team(output: dict[str, Any] | None = None, **delegate: Any) -> Definitions:
    """A coordinator `a` that answers with `output`, and its delegate `@a/x`."""
    return Definitions(
        experts={
            "a": Expert(
                key="a",
                instruction="Work.",
                delegates=("@a/x",),
                tool=ExpertTool(output_schema=output),
            ),
            "@a/x": Expert(key="@a/x", instruction="Help.", tool=ExpertTool(**delegate)),
        }
    )


def completes(result: Any, call_id: str = "end", **others: Any) -> Generation:
    return calls(call("attemptCompletion", call_id, result=result, **others))


def results(request: GenerationRequest) -> list[tuple[str, bool]]:
    """What the model read last: the texts of the results, and whether they are errors."""
    message = request.messages[-1]
    assert isinstance(message, ToolMessage)
    return [
        (part.text, result.is_error)
        for result in message.contents
        for part in result.contents
        if part.type == "textPart"
    ]


async def answered(*replies: Generation, output: dict[str, Any] = INVOICE) -> Checkpoint:
    return await work(job_context(team(output), FakeModel({"a": replies})))


async def test_the_model_completes_with_the_value_itself() -> None:
    model = FakeModel({"a": [completes(GOOD)]})

    end = await work(job_context(team(INVOICE), model))

    (schema,) = [
        tool.input_schema for tool in model.requests[0].tools if tool.name == "attemptCompletion"
    ]
    assert schema["properties"]["result"]["properties"] == INVOICE["properties"]
    assert schema["required"] == ["result"]
    assert schema["$defs"] == INVOICE["$defs"]
    assert (end.status, end.text, end.output) == ("completed", COMPACT, GOOD)


async def test_without_a_declaration_nothing_is_typed() -> None:
    end = await work(job_context(team(), FakeModel({"a": [done('{"total": 3}')]})))

    assert (end.text, end.is_typed, end.output) == ('{"total": 3}', False, None)


@pytest.mark.parametrize(
    "text",
    [
        COMPACT,
        f"```json\n{COMPACT}\n```",
        f"Here you are:\n```\n{json.dumps(GOOD, indent=2)}\n```\nAnything else?",
    ],
)
async def test_a_value_that_is_written_as_text_counts(text: str) -> None:
    in_call = await answered(completes(text))
    in_reply = await answered(says(text))

    assert (in_call.text, in_call.output) == (COMPACT, GOOD)
    assert (in_reply.text, in_reply.output) == (COMPACT, GOOD)


async def test_a_text_is_itself_where_a_text_fits() -> None:
    end = await answered(says("3"), output={"type": "string"})

    assert (end.text, end.output) == ('"3"', "3")


@pytest.mark.parametrize(("value", "reason"), MISFITS)
async def test_a_value_that_does_not_fit_goes_back_to_the_model(value: Any, reason: str) -> None:
    store = FakeStore()
    model = FakeModel({"a": [completes(value, "first"), completes(GOOD)]})

    end = await work(job_context(team(INVOICE), model, store=store))

    ((told, is_error),) = results(model.requests[1])
    assert is_error
    assert told.startswith("Not completed: ")
    assert reason in told
    assert end.output == GOOD
    assert end.step_number == 2
    assert store.types("run1").count("completeRun") == 1


async def test_the_value_is_the_only_argument() -> None:
    model = FakeModel(
        {
            "a": [
                completes(GOOD, "first", note="hi"),
                calls(call("attemptCompletion")),
                completes(GOOD),
            ]
        }
    )

    await work(job_context(team(INVOICE), model))

    assert "note is unknown" in results(model.requests[1])[0][0]
    assert "result is missing" in results(model.requests[2])[0][0]


async def test_a_reply_of_text_that_does_not_fit_takes_a_step_and_is_answered() -> None:
    model = FakeModel({"a": [says("The total is 3."), says(COMPACT)]})

    end = await work(job_context(team(INVOICE), model))

    said, told = model.requests[1].messages[-2:]
    assert said.type == "expertMessage"
    assert isinstance(told, UserMessage)
    assert "Not completed: result must be an object" in str(told)
    assert (end.step_number, end.output) == (2, GOOD)


async def test_a_model_that_only_talks_comes_to_an_end() -> None:
    model = FakeModel(lambda _: says("The total is 3."))

    end = await work(job_context(team(INVOICE), model))

    assert end.status == "stoppedByError"
    assert end.error is not None
    assert "exceeded: Not completed: result must be an object." in end.error.message
    assert end.output is None


@pytest.mark.parametrize(
    ("present", "text", "is_typed"),
    [
        (INVOICE, COMPACT, True),
        ({"type": "object", "required": ["sum"]}, COMPACT, False),
        (None, COMPACT, False),
    ],
)
async def test_an_answer_that_was_accepted_ends_the_run_that_is_resumed(
    present: dict[str, Any] | None, text: str, *, is_typed: bool
) -> None:
    store = FakeStore()
    job = job_context(team(INVOICE), FakeModel({"a": [completes(GOOD)]}), store=store)
    await work(job)
    events = store.runs()["run1"]
    accepted = [event.type for event in events].index("attemptCompletion") + 1
    broken = fold(initial_checkpoint(events[0], None), events[:accepted])

    end = await go_on(job_context(team(present), FakeModel({})), broken)

    assert (end.status, end.text, end.is_typed) == ("completed", text, is_typed)
    assert end.output == (GOOD if is_typed else None)


async def test_half_a_surrogate_pair_is_no_obstacle() -> None:
    end = await answered(completes({"total": 1, "lines": [{"amount": "\ud800"}]}))

    assert end.output == {"total": 1, "lines": [{"amount": "\ufffd"}]}


async def test_a_parent_reads_the_value_of_its_delegate() -> None:
    model = FakeModel(
        {"a": [calls(call("x", "c1", query="part")), done("ok")], "@a/x": [completes(GOOD)]}
    )

    await work(job_context(team(output_schema=INVOICE), model))

    assert results(model.requests[-1]) == [(COMPACT, False)]


async def test_a_delegate_is_offered_and_told_its_arguments() -> None:
    model = FakeModel(
        {
            "a": [calls(call("x", "c1", path="a.pdf", query="Be brief.")), done("ok")],
            "@a/x": [done("read")],
        }
    )

    await work(job_context(team(input_schema=PATH), model))

    (schema,) = [tool.input_schema for tool in model.requests[0].tools if tool.name == "x"]
    assert list(schema["properties"]) == ["path", "query"]
    assert schema["required"] == ["path"]
    assert schema["additionalProperties"] is False
    (child,) = [request for request in model.requests if request.expert_key == "@a/x"]
    assert isinstance(child.messages[1], UserMessage)
    assert child.messages[1].contents == (TextPart(text='Be brief.\n\nInput: {"path": "a.pdf"}'),)


async def test_arguments_that_a_delegate_does_not_take_are_an_error_for_its_parent() -> None:
    model = FakeModel(
        {
            "a": [
                calls(call("x", "c1", path=1, colour="red"), call("x", "c2", query=["a.pdf"])),
                done("ok"),
            ]
        }
    )

    await work(job_context(team(input_schema=PATH), model))

    assert results(model.requests[-1]) == [
        ("Bad arguments: path must be a string; colour is unknown.", True),
        ("Bad arguments: query must be a string.", True),
    ]


@pytest.mark.parametrize(
    ("skill", "told"),
    [
        ({}, "the `result` of attemptCompletion is a value that fits its schema"),
        ({"pick": ("readTextFile",)}, json.dumps(INVOICE)),
        ({"omit": ("attemptCompletion",)}, json.dumps(INVOICE)),
    ],
)
def test_the_prompt_says_what_form_the_answer_has(
    skill: dict[str, Any], told: str, tmp_path: Path
) -> None:
    base = McpStdioSkill(type="mcpStdioSkill", command="npx", package_name=BASE_SKILL, **skill)
    expert = Expert(
        key="a",
        instruction="Work.",
        skills={BASE_SKILL: base},
        tool=ExpertTool(output_schema=INVOICE),
    )

    assert told in instruction_message(expert, WorkspaceInfo(tmp_path), 0).stable
