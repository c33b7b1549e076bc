"""A job goes on from every kind of stop and from every checkpoint, on both faces alike."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from perstack.core.events import RunEvent
from perstack.definition.loader import load_definitions
from perstack.runtime.ports import JobRecord
from perstack.server.activity import ServerActivity
from perstack.server.app import build_server
from perstack.server.context import ServerContext
from perstack.server.services import TenantServices
from perstack.server.tenants.engine import TenantEngineFactory
from perstack.server.tenants.registry import TenantRegistry
from perstack.settings import Settings
from perstack.store.leases import current_owner
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.cli.harness import Stage, calls, done, says, stage
from tests.server.harness import facts

FaceName = Literal["command line", "MCP"]
NEWEST = "newest"


@dataclass(frozen=True)
class Ask:
    """What a user wants of a stopped job; `job_id` is `NEWEST` for the one begun last."""

    job_id: str
    query: str = ""
    checkpoint_id: str | None = None
    is_answer: bool = False


def on_the_command_line(here: Stage, ask: Ask) -> tuple[str, str]:
    """The status and the text with which the job stops next."""
    words = ["a", ask.query] if ask.query else []
    words += ["--continue"] if ask.job_id == NEWEST else ["--continue-job", ask.job_id]
    words += ["--resume-from", ask.checkpoint_id] if ask.checkpoint_id else []
    out = here.runs(*words, *(["-i"] if ask.is_answer else []))
    assert out.code == 0, out.stderr
    return "completed", out.events[-1]["text"]


def over_mcp(here: Stage, ask: Ask) -> tuple[str, str]:
    """The same, by a tool call to a server that is new."""
    return anyio.run(_called, here, ask)


async def _called(here: Stage, ask: Ask) -> tuple[str, str]:
    config = here.folder / "perstack.toml"
    settings = Settings(config=config, workspace=here.folder, environment={})
    reception = TenantRegistry(
        TenantEngineFactory(settings, load_definitions(config), TenantServices)
    )
    server = build_server(ServerContext(definitions=reception.definitions, tenants=reception))
    told: dict[str, Any] = {}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reception.run, ServerActivity())
        async with Client(server) as client:

            async def called(tool: str, **arguments: Any) -> dict[str, Any]:
                result = await client.call_tool(tool, arguments)
                assert isinstance(result, CallToolResult)
                return facts(result)

            job_id = ask.job_id
            if job_id == NEWEST:
                job_id = (await called("perstack_jobs", limit=1))["jobs"][0]["job_id"]
            given = {"checkpoint_id": ask.checkpoint_id} if ask.checkpoint_id else {}
            told = await called("a", query=ask.query, job_id=job_id, **given)
        await reception.close(5)
    return told["status"], told["text"]


FACES: dict[FaceName, Callable[[Stage, Ask], tuple[str, str]]] = {
    "command line": on_the_command_line,
    "MCP": over_mcp,
}


@pytest.fixture(params=FACES)
def go_on(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Ask], tuple[str, str]]:
    return partial(FACES[request.param], stage(tmp_path))


@pytest.fixture
def here(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


GoOn = Callable[[Ask], tuple[str, str]]


def stored(here: Stage, job_id: str) -> JobRecord:
    async def read() -> JobRecord:
        async with open_sqlite_store(store_path(here.folder)) as store:
            return await store.load(job_id)

    return anyio.run(read)


def die_after(here: Stage, job_id: str, is_last: Callable[[RunEvent], bool]) -> None:
    """Leave the job as if its process had died when this event had become durable."""

    async def rewrite() -> None:
        path = store_path(here.folder)
        async with open_sqlite_store(path) as store:
            _, events = await store.events(job_id)
        cut = next(i for i, event in enumerate(events) if is_last(event)) + 1
        shutil.rmtree(path.parent)
        host, _, _ = current_owner().partition(":")
        async with open_sqlite_store(path, owner=f"{host}:{os.getpid()}:1") as store:
            await store.append(events[:cut], await store.acquire(job_id))
        async with open_sqlite_store(path) as store:
            assert (await store.load(job_id)).job.status == "interrupted"

    anyio.run(rewrite)


def job_of(events: list[dict[str, Any]]) -> str:
    found: str = events[-1]["jobId"]
    return found


def test_the_newest_job_goes_on(here: Stage, go_on: GoOn) -> None:
    here.plays(a=[says("first"), says("second to {{query}}")])
    here.runs("a", "old")
    here.runs("a", "new")
    assert go_on(Ask(NEWEST, "and now?")) == ("completed", "second to and now?")


def test_a_job_whose_process_died_at_work_goes_on(here: Stage, go_on: GoOn) -> None:
    here.plays(a=[calls("todo", newTodos=["one"]), says("the end")])
    job_id = job_of(here.runs("a", "q").events)
    die_after(here, job_id, lambda event: event.type == "finishToolCall")
    assert go_on(Ask(job_id)) == ("completed", "the end")


@pytest.mark.parametrize("last", ["callDelegate", "stopRunByDelegate"])
def test_a_job_that_waited_for_delegates_goes_on(here: Stage, go_on: GoOn, last: str) -> None:
    here.plays(a=[calls("x", query="help"), done("{{lastToolResult}}, it says")], a_x=[says("yes")])
    job_id = job_of(here.runs("a", "q").events)
    die_after(here, job_id, lambda event: event.type == last)
    assert go_on(Ask(job_id)) == ("completed", "yes, it says")


def test_finished_delegates_are_kept_and_half_finished_ones_go_on(here: Stage, go_on: GoOn) -> None:
    here.plays(
        a=[calls("x", "x", query="help"), done("helped twice")],
        a_x=[calls("todo", newTodos=["one"]), says("yes")],
    )
    job_id = job_of(here.runs("a", "q").events)
    die_after(here, job_id, lambda event: event.type == "completeRun")
    before = stored(here, job_id)
    done_before = {key for key, events in before.runs.items() if events[-1].type == "completeRun"}
    assert len(done_before) == 1

    assert go_on(Ask(job_id)) == ("completed", "helped twice")

    after = stored(here, job_id)
    assert after.runs.keys() == before.runs.keys()
    for key in done_before:
        assert after.runs[key] == before.runs[key]
    for key, events in before.runs.items():
        assert after.runs[key][: len(events)] == events


def test_a_question_is_answered(here: Stage, go_on: GoOn) -> None:
    here.plays(a=[calls("askUser", text="Which colour?"), done("{{lastToolResult}} it is")])
    out = here.runs("a", "q")
    assert out.code == 3
    assert go_on(Ask(job_of(out.events), "blue", is_answer=True)) == ("completed", "blue it is")


def test_a_job_that_has_used_its_steps_has_as_many_again(here: Stage, go_on: GoOn) -> None:
    toml = here.folder / "perstack.toml"
    toml.write_text("maxSteps = 2\n" + toml.read_text(encoding="utf-8"), encoding="utf-8")
    here.plays(a=[*(calls("clearTodo") for _ in range(3)), says("the end")])
    out = here.runs("a", "q")
    assert out.types[-1] == "stopRunByExceededMaxSteps"
    assert go_on(Ask(job_of(out.events))) == ("completed", "the end")


def test_a_job_that_has_failed_tries_again(here: Stage, go_on: GoOn) -> None:
    here.plays(a=[{"error": {"message": "refused", "status": 401}}])
    out = here.runs("a", "q")
    assert out.types[-1] == "stopRunByError"
    here.plays(a=[says("the end")])
    assert go_on(Ask(job_of(out.events))) == ("completed", "the end")


@pytest.mark.parametrize("query", ["", "rather this"])
def test_a_branch_goes_on_from_a_checkpoint_and_leaves_its_trunk_alone(
    here: Stage, go_on: GoOn, query: str
) -> None:
    here.plays(a=[calls("clearTodo"), says("to {{query}}"), says("never")])
    events = here.runs("a", "q").events
    fork = next(event for event in events if event["type"] == "continueToNextStep")
    job_id = job_of(events)
    trunk = stored(here, job_id).runs

    assert go_on(Ask(job_id, query, checkpoint_id=fork["id"])) == (
        "completed",
        f"to {query or 'q'}",
    )

    (trunk_id,) = trunk
    after = stored(here, job_id).runs
    branch = next(events for key, events in after.items() if key != trunk_id)
    assert after[trunk_id] == trunk[trunk_id]
    assert getattr(branch[0], "continued_from", None) == fork["id"]


def test_raised_steps_are_for_the_command_that_raises_them(here: Stage) -> None:
    stage(here.folder)
    here.plays(a=[*(calls("clearTodo") for _ in range(5)), says("the end")])
    assert here.runs("a", "q", "--max-steps", "1").code == 4
    assert here.runs("--continue", "--max-steps", "2").code == 4
    out = here.runs("--continue", "--max-steps", "3")
    assert (out.code, out.events[-1]["text"], out.events[-1]["stepNumber"]) == (0, "the end", 6)
