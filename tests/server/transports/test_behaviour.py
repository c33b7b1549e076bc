"""What every client may count on, over each transport and in both eras of the protocol."""

from itertools import pairwise

import anyio
import pytest
from mcp import MCPError
from mcp_types import ResourceTemplateReference

from tests.server.harness import facts, texts
from tests.server.transports.clients import (
    PATIENCE_SECONDS,
    Noted,
    Pair,
    call,
    gate_in,
    until_status,
)

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_experts_and_the_tools_for_jobs_are_listed(pair: Pair) -> None:
    listed = await pair.first.list_tools()

    names = [tool.name for tool in listed.tools]
    assert names == ["echo", "waiter", "perstack_job", "perstack_jobs", "perstack_cancel"]


async def test_a_call_answers_in_text_and_structure(pair: Pair) -> None:
    result = await call(pair.first, "echo", query="hello")

    assert texts(result)[0] == "You said hello."
    assert facts(result)["text"] == "You said hello."
    assert facts(result)["status"] == "completed"
    assert facts(result)["job_id"] in texts(result)[-1]
    assert not result.is_error


async def test_progress_arrives_while_the_call_is_open_and_grows(pair: Pair) -> None:
    gate, noted = gate_in(pair.folder), Noted()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(pair.first, "waiter", noted, query=gate.name))
        with anyio.fail_after(PATIENCE_SECONDS):
            await noted.at_work.wait()
        gate.touch()

    assert any("step 1" in line for line in noted.lines)
    assert all(after > before for before, after in pairwise(noted.values))


async def test_a_call_that_its_client_cancels_stops_the_job_and_it_can_go_on(pair: Pair) -> None:
    gate, noted = gate_in(pair.folder), Noted()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(pair.first, "waiter", noted, query=gate.name))
        with anyio.fail_after(PATIENCE_SECONDS):
            await noted.at_work.wait()
        tasks.cancel_scope.cancel()
    job_id = await until_status(pair.second, gate.name, lambda status: status != "running")
    stopped = facts(await call(pair.second, "perstack_job", job_id=job_id))
    gate.touch()
    resumed = await call(pair.first, "waiter", query="", job_id=job_id)

    assert stopped["status"] == "cancelled"
    assert facts(resumed)["status"] == "completed"
    assert facts(resumed)["text"] == "It is there."


async def test_a_job_is_handed_off_at_once_and_collected_on_another_connection(pair: Pair) -> None:
    gate = gate_in(pair.folder)
    handed = facts(await call(pair.first, "waiter", query=gate.name, wait_seconds=0))
    meanwhile = facts(
        await call(pair.second, "perstack_job", job_id=handed["job_id"], wait_seconds=0)
    )
    gate.touch()
    collected = facts(await call(pair.second, "perstack_job", job_id=handed["job_id"]))

    assert (handed["status"], meanwhile["status"]) == ("running", "running")
    assert collected["status"] == "completed"
    assert collected["text"] == "It is there."


async def test_a_job_is_stopped_by_the_tool_for_it(pair: Pair) -> None:
    gate = gate_in(pair.folder)
    handed = facts(await call(pair.first, "waiter", query=gate.name, wait_seconds=0))

    stopped = facts(await call(pair.first, "perstack_cancel", job_id=handed["job_id"]))

    assert stopped["status"] == "cancelled"


async def test_wrong_arguments_are_a_result_that_names_them(pair: Pair) -> None:
    result = await call(pair.first, "echo", query="x", colour="red")

    assert result.is_error
    assert "colour" in texts(result)[0]


async def test_an_unknown_tool_is_refused(pair: Pair) -> None:
    with pytest.raises(MCPError, match="nobody"):
        await call(pair.first, "nobody", query="x")


async def test_an_unknown_job_is_a_result_that_says_so(pair: Pair) -> None:
    result = await call(pair.first, "perstack_job", job_id="a" * 24)

    assert result.is_error
    assert "a" * 24 in texts(result)[0]


async def test_a_follow_up_goes_on_with_the_conversation(pair: Pair) -> None:
    job_id = facts(await call(pair.first, "echo", query="one"))["job_id"]

    followed = facts(await call(pair.second, "echo", query="two", job_id=job_id))

    assert followed["job_id"] == job_id
    assert followed["text"] == "And then two."


async def test_two_clients_have_their_answers_at_the_same_time(pair: Pair) -> None:
    gate, noted = gate_in(pair.folder), Noted()
    answers: list[str] = []

    async def ask(number: int) -> None:
        client = pair.second if number % 2 else pair.first
        answers.append(facts(await call(client, "echo", query=str(number)))["text"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(pair.first, "waiter", noted, query=gate.name))
        with anyio.fail_after(PATIENCE_SECONDS):
            await noted.at_work.wait()
        async with anyio.create_task_group() as asking:
            for number in range(6):
                asking.start_soon(ask, number)
        gate.touch()

    assert sorted(answers) == [f"You said {number}." for number in range(6)]


async def test_what_a_job_did_is_read_on_another_connection(pair: Pair) -> None:
    job_id = facts(await call(pair.first, "echo", query="hello"))["job_id"]

    result = await pair.second.read_resource(f"perstack://jobs/{job_id}/result")
    events = await pair.second.read_resource(f"perstack://jobs/{job_id}/events?limit=1")
    listed = await pair.second.list_resources()
    prompt = await pair.second.get_prompt("echo", {"query": "hello again"})
    template = ResourceTemplateReference(uri="perstack://jobs/{job_id}")
    completed = await pair.second.complete(template, {"name": "job_id", "value": job_id[:20]})
    with pytest.raises(MCPError, match="Resource not found"):
        await pair.second.read_resource("perstack://jobs/none")

    assert "You said hello." in result.model_dump_json()
    assert "startRun" in events.model_dump_json()
    assert f"perstack://jobs/{job_id}" in {resource.uri for resource in listed.resources}
    assert "hello again" in prompt.model_dump_json()
    assert completed.completion.values == [job_id]
