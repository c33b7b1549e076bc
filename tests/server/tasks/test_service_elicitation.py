"""Tasks that need an answer of the user."""

from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError
from mcp_types import INVALID_PARAMS

from tests.fakes import FakeModel, Reply, call, calls, done
from tests.server.tasks.client import TaskClient
from tests.server.tasks.test_service import taking
from tests.server.tools.test_elicitation_of_skills import MODERN

pytestmark = pytest.mark.anyio

ASKING: list[Reply] = [calls(call("askUser", "q1", question="Which colour?")), done("painted")]
ASKING_TWICE: list[Reply] = [
    calls(
        call("askUser", "q1", question="Which colour?"), call("askUser", "q2", question="Where?")
    ),
    done("painted"),
]
COBALT = {"action": "accept", "content": {"answer": "cobalt"}}
CELLAR = {"action": "accept", "content": {"answer": "cellar"}}


async def asked(client: TaskClient) -> dict[str, Any]:
    """The first task of a client, once it waits for an answer."""
    created = await client.call("reviewer", query="paint")
    return await client.until(created["taskId"], "input_required")


def answers_in(model: FakeModel) -> str:
    return str(model.requests[-1].messages)


async def test_a_question_is_shown_as_a_form_and_its_answer_takes_the_task_on(
    tmp_path: Path,
) -> None:
    async with taking(tmp_path, ASKING, has_forms=True) as client:
        waiting = await asked(client)
        acknowledged = await client.update(waiting["taskId"], q1=COBALT)
        completed = await client.until(waiting["taskId"])
        told = answers_in(client.model)
    assert waiting["status"] == "input_required"
    (form,) = waiting["inputRequests"].values()
    assert form["method"] == "elicitation/create"
    assert form["params"]["message"] == "Which colour?"
    assert form["params"]["requestedSchema"]["properties"]["answer"]["type"] == "string"
    assert acknowledged["resultType"] == "complete"
    assert {"taskId", "status", "inputRequests"}.isdisjoint(acknowledged)
    assert completed["status"] == "completed"
    assert completed["result"]["structuredContent"]["text"] == "painted"
    assert "cobalt" in told


async def test_questions_are_answered_one_at_a_time(tmp_path: Path) -> None:
    async with taking(tmp_path, ASKING_TWICE, has_forms=True) as client:
        waiting = await asked(client)
        task = waiting["taskId"]
        await client.update(task, q1=COBALT)
        half = await client.get(task)
        await client.update(task, q2=CELLAR)
        completed = await client.until(task)
        told = answers_in(client.model)
    assert list(waiting["inputRequests"]) == ["q1", "q2"]
    assert half["status"] == "input_required"
    assert list(half["inputRequests"]) == ["q2"]
    assert completed["status"] == "completed"
    assert "cobalt" in told
    assert "cellar" in told


async def test_questions_are_answered_together(tmp_path: Path) -> None:
    async with taking(tmp_path, ASKING_TWICE, has_forms=True) as client:
        task = (await asked(client))["taskId"]
        await client.update(task, q2=CELLAR, q1=COBALT)
        completed = await client.until(task)
        told = answers_in(client.model)
    assert completed["status"] == "completed"
    assert "cobalt" in told
    assert "cellar" in told


async def test_who_declines_has_the_expert_go_on_without(tmp_path: Path) -> None:
    async with taking(tmp_path, ASKING, has_forms=True) as client:
        task = (await asked(client))["taskId"]
        await client.update(task, q1={"action": "decline"})
        completed = await client.until(task)
        told = answers_in(client.model)
    assert completed["result"]["structuredContent"]["text"] == "painted"
    assert "declined" in told


async def test_who_closes_the_form_gets_the_question_as_the_result(tmp_path: Path) -> None:
    async with taking(tmp_path, ASKING, has_forms=True) as client:
        task = (await asked(client))["taskId"]
        await client.update(task, q1={"action": "cancel"})
        completed = await client.get(task)
        follow_up = await client.call("reviewer", query="cobalt", job_id=task)
        after = await client.until(follow_up["taskId"])
        again = await client.get(task)
    assert completed["status"] == "completed"
    assert not completed["result"].get("isError")
    assert completed["result"]["structuredContent"]["status"] == "needs_input"
    assert again == completed
    assert after["taskId"] == f"{task}.1"
    assert after["result"]["structuredContent"]["text"] == "painted"


@pytest.mark.parametrize(
    "responses",
    [
        {"nobody-asked": COBALT},
        {"q1": {"ignored": True}},
        {"q1": None},
        {"q1": "cobalt"},
        {},
    ],
)
async def test_what_answers_no_question_is_ignored(
    tmp_path: Path, responses: dict[str, Any]
) -> None:
    async with taking(tmp_path, ASKING, has_forms=True) as client:
        waiting = await asked(client)
        acknowledged = await client.update(waiting["taskId"], **responses)
        still = await client.get(waiting["taskId"])
    assert acknowledged["resultType"] == "complete"
    assert still == waiting


async def test_an_answer_that_comes_again_or_late_is_ignored(tmp_path: Path) -> None:
    async with taking(tmp_path, ASKING, has_forms=True) as client:
        task = (await asked(client))["taskId"]
        await client.update(task, q1=COBALT)
        await client.update(task, q1=CELLAR)
        completed = await client.until(task)
        await client.update(task, q1=CELLAR)
        again = await client.get(task)
        told = answers_in(client.model)
    assert again == completed
    assert "cellar" not in told


async def test_a_client_without_forms_gets_the_question_as_the_result(tmp_path: Path) -> None:
    async with taking(tmp_path, ASKING) as client:
        created = await client.call("reviewer", query="paint")
        completed = await client.until(created["taskId"])
        await client.cancel(created["taskId"])
        follow_up = await client.call("reviewer", query="cobalt", job_id=created["taskId"])
        after = await client.until(follow_up["taskId"])
        again = await client.get(created["taskId"])
    assert completed["status"] == "completed"
    assert completed["result"]["structuredContent"]["question"]["tool_name"] == "askUser"
    assert again == completed
    assert after["result"]["structuredContent"]["text"] == "painted"


async def test_a_task_that_waits_for_an_answer_can_be_cancelled(tmp_path: Path) -> None:
    async with taking(tmp_path, ASKING, has_forms=True) as client:
        task = (await asked(client))["taskId"]
        await client.cancel(task)
        cancelled = await client.get(task)
        await client.update(task, q1=COBALT)
        again = await client.get(task)
    assert cancelled["status"] == "cancelled"
    assert "inputRequests" not in cancelled
    assert again == cancelled


async def test_a_branch_takes_the_place_of_a_task_that_waits(tmp_path: Path) -> None:
    replies: list[Reply] = [ASKING[0], done("otherwise")]
    async with taking(tmp_path, replies, has_forms=True) as client:
        task = (await asked(client))["taskId"]
        beginning = (await client.engine.history(task))[0][1].id
        branch = await client.call(
            "reviewer", query="rather this", job_id=task, checkpoint_id=beginning
        )
        completed = await client.until(branch["taskId"])
        superseded = await client.get(task)
    assert superseded["status"] == "cancelled"
    assert superseded["statusMessage"] == "another request took the place of this one"
    assert completed["result"]["structuredContent"]["text"] == "otherwise"


YES = {"action": "accept", "content": {"sure": True}}
CLEANING: list[Reply] = [calls(call("ask", "c1")), done("cleaned")]


async def test_a_question_of_a_skill_is_answered_in_the_middle_of_a_call(tmp_path: Path) -> None:
    async with taking(
        tmp_path, CLEANING, has_forms=True, toml=MODERN, has_real_skills=True
    ) as client:
        waiting = await asked(client)
        (question, form) = next(iter(waiting["inputRequests"].items()))
        with pytest.raises(MCPError, match="sure must be a boolean") as refused:
            await client.update(
                waiting["taskId"], **{question: {"action": "accept", "content": {"sure": "so"}}}
            )
        still = await client.get(waiting["taskId"])
        await client.update(waiting["taskId"], **{question: YES})
        completed = await client.until(waiting["taskId"])
        told = answers_in(client.model)
    assert form["params"]["message"] == "disk asks: Delete it?"
    assert refused.value.code == INVALID_PARAMS
    assert still["inputRequests"] == waiting["inputRequests"]
    assert completed["result"]["structuredContent"]["text"] == "cleaned"
    assert '{"sure": true}' in told


async def test_a_client_without_forms_answers_a_skill_with_a_call_that_is_a_task_of_its_own(
    tmp_path: Path,
) -> None:
    async with taking(tmp_path, CLEANING, toml=MODERN, has_real_skills=True) as client:
        created = await client.call("reviewer", query="clean")
        task = created["taskId"]
        completed = await client.until(task)
        follow_up = await client.call("reviewer", query="yes", job_id=task)
        after = await client.until(follow_up["taskId"])
        again = await client.get(task)
    assert completed["result"]["structuredContent"]["status"] == "needs_input"
    assert follow_up["taskId"] == f"{task}.1"
    assert after["result"]["structuredContent"]["text"] == "cleaned"
    assert again == completed


async def test_a_task_whose_skill_waits_for_an_answer_can_be_cancelled(tmp_path: Path) -> None:
    async with taking(
        tmp_path, CLEANING, has_forms=True, toml=MODERN, has_real_skills=True
    ) as client:
        waiting = await asked(client)
        await client.cancel(waiting["taskId"])
        cancelled = await client.until(waiting["taskId"])
    assert cancelled["status"] == "cancelled"
    assert "inputRequests" not in cancelled
