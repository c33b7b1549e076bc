"""perstack as a library: one call for the result, or an iterator for every event."""

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import pytest

import perstack
from perstack.core.transient_events import PerstackEvent
from perstack.engine import open_engine
from perstack.library import run, stream
from perstack.settings import Overrides
from perstack.store.memory import MemoryStore
from tests.fakes import FakeModel, FakeSkills, NoTelemetry, call, calls, done, says

pytestmark = pytest.mark.anyio


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "perstack.toml"
    path.write_text('[experts."a"]\ninstruction = "Work."\n', encoding="utf-8")
    return path


def parts(
    model: FakeModel, store: MemoryStore | None = None, skills: FakeSkills | None = None
) -> Overrides:
    @asynccontextmanager
    async def open_skills(_definitions: object) -> AsyncGenerator[FakeSkills]:
        yield skills or FakeSkills()

    return Overrides(
        model=model,
        store=store or MemoryStore(),
        open_skills=open_skills,
        telemetry=NoTelemetry(),
    )


def held_back() -> FakeSkills:
    """Skills whose calls never return."""
    return FakeSkills(gate=anyio.Event())


async def test_a_run_gives_the_answer_and_tells_the_events(config: Path) -> None:
    heard: list[PerstackEvent] = []
    view = await run(
        "a",
        "the answer?",
        config=config,
        workspace=config.parent,
        overrides=parts(FakeModel({"a": [done("42")]})),
        on_event=heard.append,
    )
    assert (view.job.status, view.text) == ("completed", "42")
    assert heard[-1].type == "completeRun"


async def test_typed_inputs_and_answers_are_values(config: Path) -> None:
    with config.open("a", encoding="utf-8") as file:
        file.write("tool.inputSchema = { type = 'object', properties = { path = {} } }\n")
        file.write("tool.outputSchema = { type = 'array' }\n")
    model = FakeModel({"a": [says("[1, 2]"), says("[3]")]})
    store = MemoryStore()
    view = await run(
        "a",
        inputs={"path": "a.pdf"},
        config=config,
        workspace=config.parent,
        overrides=parts(model, store),
    )
    assert (view.text, view.output) == ("[1,2]", [1, 2])
    assert 'Input: {"path": "a.pdf"}' in str(model.requests[0].messages[-1])
    with pytest.raises(perstack.PerstackError, match="pages is unknown"):
        await run("a", inputs={"pages": 1}, config=config, overrides=parts(model, store))
    again = [
        event
        async for event in stream(
            "a",
            inputs={"path": "b.pdf"},
            job_id=view.job.id,
            config=config,
            workspace=config.parent,
            overrides=parts(model, store),
        )
    ]
    assert again[-1].type == "completeRun"
    assert 'Input: {"path": "b.pdf"}' in str(model.requests[1].messages[-1])


async def test_provider_model_steps_and_environment_are_given_by_name(tmp_path: Path) -> None:
    (tmp_path / "perstack.toml").write_text(
        '[experts."a"]\ninstruction = "Work."\n', encoding="utf-8"
    )
    script = tmp_path / "script.toml"
    script.write_text(
        '[[experts.a]]\ntoolCalls = [{ name = "clearTodo", args = {} }]\n', encoding="utf-8"
    )
    view = await run(
        "a",
        "q",
        config=tmp_path,
        workspace=str(tmp_path),
        provider="scripted",
        model="rehearsal",
        max_steps=1,
        environment={"PERSTACK_SCRIPT": str(script)},
    )
    assert (view.job.status, view.checkpoint.provider) == ("stoppedByMaxSteps", "scripted")
    assert view.checkpoint.model == "rehearsal"


async def test_an_unknown_expert_is_an_error_and_not_a_group_of_errors(config: Path) -> None:
    with pytest.raises(perstack.PerstackError, match="'b' is not defined"):
        await run("b", "q", config=config, workspace=config.parent, overrides=parts(FakeModel({})))


async def test_a_stream_has_the_pieces_of_a_reply_and_ends_with_the_run(config: Path) -> None:
    model = FakeModel({"a": [says("hello")]})
    events = [
        event.type
        async for event in stream(
            "a", "q", config=config, workspace=config.parent, overrides=parts(model)
        )
    ]
    assert "streamRunResult" in events
    assert events[-1] == "completeRun"


async def test_an_error_before_the_first_event_reaches_the_reader(config: Path) -> None:
    events = stream(
        "b", "q", config=config, workspace=config.parent, overrides=parts(FakeModel({}))
    )
    with pytest.raises(perstack.PerstackError, match="'b' is not defined"):
        async for _ in events:
            pass


async def test_leaving_a_stream_early_stops_the_job_resumable(config: Path) -> None:
    store = MemoryStore()
    model = FakeModel({"a": [calls(call("echo", "c1")), done("late")]})
    held = parts(model, store, held_back())
    events = stream("a", "q", config=config, workspace=config.parent, overrides=held)
    with anyio.fail_after(30):
        async with aclosing(events):
            async for event in events:
                if event.type == "startToolCalls":
                    break
    (job,) = await store.jobs()
    assert job.status == "stoppedByCancellation"
    view = await run(
        None, job_id=job.id, config=config, workspace=config.parent, overrides=parts(model, store)
    )
    assert view.text == "late"


async def test_a_reader_that_is_cancelled_waits_until_the_job_is_at_rest(config: Path) -> None:
    store = MemoryStore()
    held = parts(FakeModel({"a": [calls(call("echo", "c1"))]}), store, held_back())
    with anyio.CancelScope() as scope:
        events = stream("a", "q", config=config, workspace=config.parent, overrides=held)
        async with aclosing(events):
            async for event in events:
                if event.type == "startToolCalls":
                    scope.cancel()
    assert (await store.jobs())[0].status == "stoppedByCancellation"


async def test_a_stream_that_is_only_dropped_stops_its_job_too(config: Path) -> None:
    store = MemoryStore()
    held = parts(FakeModel({"a": [calls(call("echo", "c1"))]}), store, held_back())
    with anyio.fail_after(30):
        async for event in stream("a", "q", config=config, workspace=config.parent, overrides=held):
            if event.type == "startToolCalls":
                break
        while (await store.jobs())[0].status == "running":
            await anyio.lowlevel.checkpoint()
    assert (await store.jobs())[0].status == "stoppedByCancellation"


async def test_what_the_package_exports_is_there() -> None:
    assert {name: getattr(perstack, name) for name in perstack.__all__}
    assert perstack.open_engine is open_engine
    with pytest.raises(AttributeError, match="nothing"):
        getattr(perstack, "nothing")  # noqa: B009 - the type checker knows that it is not there


def test_importing_the_package_loads_next_to_nothing() -> None:
    probe = (
        "import sys, perstack; print([m for m in ('pydantic', 'anyio', 'mcp') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout == "[]\n"
