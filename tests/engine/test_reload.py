"""Definitions that change while jobs run."""

from functools import partial
from pathlib import Path

import anyio
import pytest

from perstack.core.events import StartRun
from perstack.definition.loader import LoadedDefinitions, load_definitions
from perstack.engine import open_engine
from perstack.errors import ConfigError, UnknownExpertError
from perstack.runtime.ports import GenerationRequest
from perstack.runtime.start_plan import JobRequest
from perstack.settings import Overrides, Settings
from tests.engines import engine_on
from tests.fakes import FakeModel, FakeSkills, NoTelemetry, Reply, call, calls, done

pytestmark = pytest.mark.anyio

OLD = '[experts."a"]\ninstruction = "The old way."\n'
NEW = '[experts."a"]\ninstruction = "The new way."\n[experts."b"]\ninstruction = "Also."\n'


def instruction_of(request: GenerationRequest) -> str:
    """Which of the two instructions the model was given."""
    return "old" if "The old way." in request.messages[0].model_dump_json() else "new"


engine_of = partial(engine_on, toml=OLD)


def written(folder: Path, text: str) -> LoadedDefinitions:
    """The definitions of a text."""
    file = folder / "perstack.toml"
    file.write_text(text, encoding="utf-8")
    return load_definitions(file)


async def test_a_new_job_has_the_new_definitions(tmp_path: Path) -> None:
    model = FakeModel({"a": [done("1")], "b": [done("2")]})
    async with engine_of(tmp_path, model) as engine:
        with pytest.raises(UnknownExpertError):
            await engine.start(JobRequest(expert_key="b", query="q"))
        await engine.reload_definitions(written(tmp_path, NEW))
        for key in ("a", "b"):
            job = await engine.start(JobRequest(expert_key=key, query="q"))
            await job.wait()
        assert set(engine.definitions.experts) == {"a", "b"}
    assert instruction_of(model.requests[0]) == "new"


async def test_a_job_that_runs_keeps_its_definitions_and_has_the_new_ones_when_it_goes_on(
    tmp_path: Path,
) -> None:
    gate = anyio.Event()
    skills = FakeSkills(gate=gate)
    replies: list[Reply] = [calls(call("echo", "c1")), done("1"), done("2")]
    model = FakeModel({"a": replies})
    async with engine_of(tmp_path, model, skills=skills) as engine:
        old = engine.loaded
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        with anyio.fail_after(30):
            while not skills.called:
                await anyio.lowlevel.checkpoint()
        new = written(tmp_path, NEW)
        await engine.reload_definitions(new)
        gate.set()
        assert (await job.wait()).text == "1"
        again = await engine.start(JobRequest(job_id=job.job_id, query="more"))
        assert (await again.wait()).text == "2"
        begun = [e for e, _ in await engine.history(job.job_id) if isinstance(e, StartRun)]
    assert [event.definition_hash for event in begun] == [old.digest, new.digest]


async def test_a_job_whose_expert_is_gone_says_so_when_it_shall_go_on(tmp_path: Path) -> None:
    async with engine_of(tmp_path, FakeModel({"a": [done("1")]})) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        await job.wait()
        await engine.reload_definitions(
            written(tmp_path, '[experts."b"]\ninstruction = "Alone."\n')
        )
        with pytest.raises(UnknownExpertError):
            await engine.start(JobRequest(job_id=job.job_id, query="more"))
        assert (await engine.job(job.job_id)).text == "1"


async def test_definitions_whose_model_cannot_be_opened_are_refused_whole(tmp_path: Path) -> None:
    async with engine_of(tmp_path, None) as engine:
        scripted = '[provider]\nproviderName = "scripted"\n[provider.setting]\nscript = "no"\n'
        with pytest.raises(ConfigError):
            await engine.reload_definitions(written(tmp_path, scripted + NEW))
        assert set(engine.definitions.experts) == {"a"}


async def test_an_engine_opens_with_the_definitions_that_it_is_given(tmp_path: Path) -> None:
    loaded = written(tmp_path, OLD)
    loaded.path.write_text("[[[ broken meanwhile", encoding="utf-8")
    settings = Settings(config=loaded.path, environment={}, is_in_memory=True, workspace=tmp_path)
    async with open_engine(settings, Overrides(telemetry=NoTelemetry()), loaded) as engine:
        assert engine.loaded is loaded


async def test_observers_are_told_what_jobs_do(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    async with engine_of(tmp_path, FakeModel({"a": [done("1"), done("2")]})) as engine:
        engine.subscribe(lambda job_id, news: told.append((job_id, news)))
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        await job.wait()
        first, told[:] = list(told), []
        again = await engine.start(JobRequest(job_id=job.job_id, query="more"))
        await again.wait()
    assert {job_id for job_id, _ in (*first, *told)} == {job.job_id}
    news = [each for _, each in first]
    assert (news[0], news[-1]) == ("began", "stopped")
    assert set(news[1:-1]) == {"moved"}
    assert "began" not in {each for _, each in told}
    assert told[-1] == (job.job_id, "stopped")


async def test_an_observer_that_fails_does_not_end_the_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_job_id: str, _news: str) -> None:
        raise RuntimeError("a bug")

    async with engine_of(tmp_path, FakeModel({"a": [done("1")]})) as engine:
        engine.subscribe(broken)
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        assert (await job.wait()).text == "1"
    assert "An observer failed" in caplog.text
