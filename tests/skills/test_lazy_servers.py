"""Servers with `lazyInit`, which the first call of one of their tools starts."""

import os
import shutil
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perstack.core.tools import ToolDefinition
from perstack.definition.model import Definitions, Expert, McpStdioSkill
from perstack.errors import SkillError
from perstack.runtime.ports import Skills
from perstack.skills.context import SkillTimeouts
from perstack.skills.engine_skills import open_engine_skills
from tests.skills.harness import PLAIN, Recorder, call, expert, plain

pytestmark = pytest.mark.anyio

LAZY = expert(plain=plain(lazy_init=True))


@asynccontextmanager
async def job(
    folder: Path,
    tester: Expert = LAZY,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[Skills]:
    """A job of an engine of its own, which keeps what it learns of servers in the folder."""
    async with (
        open_engine_skills(
            workspace=folder,
            environment={"PATH": os.environ["PATH"], **(environment or {})},
            tools_folder=folder / "known",
            timeouts=SkillTimeouts(grace_seconds=0.3),
        ) as engine,
        engine.open_job(Definitions(experts={tester.key: tester})) as skills,
    ):
        yield skills


async def tools_of(folder: Path, told: Recorder, tester: Expert = LAZY) -> list[ToolDefinition]:
    """The server's tools as a job is shown them that calls none."""
    async with job(folder, tester) as skills:
        return [tool for tool in await skills.tools(tester, told) if tool.skill_name == "plain"]


async def test_the_first_job_lists_the_tools_and_keeps_the_server(tmp_path: Path) -> None:
    told = Recorder()

    async with job(tmp_path) as skills:
        tools = await skills.tools(LAZY, told)
        result = await skills.call(LAZY, call("echo", text="1"), "key")

    assert "echo" in [tool.name for tool in tools]
    assert result.text == "1"
    assert len(told.of("starting")) == 1


async def test_once_the_tools_are_known_a_call_starts_the_server_and_nothing_else(
    tmp_path: Path,
) -> None:
    first, second = Recorder(), Recorder()
    listed = await tools_of(tmp_path, first)

    async with job(tmp_path) as skills:
        known = [tool for tool in await skills.tools(LAZY, second) if tool.skill_name == "plain"]
        version = skills.tools_version(LAZY)
        before = list(second.events)
        result = await skills.call(LAZY, call("echo", text="1"), "key")
        has_changed = skills.tools_version(LAZY) != version and version is not None

    assert known == listed
    assert before == []
    assert result.text == "1"
    assert [event[0] for event in second.events[:3]] == ["connecting", "starting", "connected"]
    assert not has_changed


async def test_a_job_that_calls_none_of_the_tools_never_starts_the_server(tmp_path: Path) -> None:
    told = Recorder()
    await tools_of(tmp_path, Recorder())

    await tools_of(tmp_path, told)

    assert told.events == []


async def test_jobs_of_one_engine_know_the_tools_without_a_file(tmp_path: Path) -> None:
    told = Recorder()
    definitions = Definitions(experts={LAZY.key: LAZY})
    async with open_engine_skills(
        workspace=tmp_path, environment={"PATH": os.environ["PATH"]}
    ) as engine:
        async with engine.open_job(definitions) as skills:
            await skills.tools(LAZY, Recorder())
        async with engine.open_job(definitions) as skills:
            tools = await skills.tools(LAZY, told)

    assert "echo" in [tool.name for tool in tools]
    assert told.events == []
    assert list(tmp_path.iterdir()) == []


async def test_pick_and_omit_hold_for_tools_that_are_known(tmp_path: Path) -> None:
    await tools_of(tmp_path, Recorder())
    picky, told = expert(plain=plain(lazy_init=True, pick=("echo", "ehco"))), Recorder()

    tools = await tools_of(tmp_path, told, picky)

    assert [tool.name for tool in tools] == ["echo"]
    assert "`pick` names 'ehco'" in told.lines()


async def test_a_server_whose_file_changed_is_asked_again(tmp_path: Path) -> None:
    shutil.copy(PLAIN, tmp_path / "server.py")
    skill = McpStdioSkill(
        type="mcpStdioSkill", command=sys.executable, args=("-S", "server.py"), lazy_init=True
    )
    tester, told = expert(plain=skill), Recorder()
    await tools_of(tmp_path, Recorder(), tester)
    text = (tmp_path / "server.py").read_text(encoding="utf-8")
    (tmp_path / "server.py").write_text(text.replace('"look"', '"look2"'), encoding="utf-8")

    tools = await tools_of(tmp_path, told, tester)

    assert "look2" in [tool.name for tool in tools]
    assert len(told.of("starting")) == 1


async def test_tools_that_differ_from_the_known_ones_are_shown_from_the_next_turn_on(
    tmp_path: Path,
) -> None:
    await tools_of(tmp_path, Recorder())
    (file,) = (tmp_path / "known").iterdir()
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"look"', '"gaze"'), encoding="utf-8")

    async with job(tmp_path) as skills:
        before = [tool.name for tool in await skills.tools(LAZY, Recorder())]
        await skills.call(LAZY, call("echo", text="1"), "key")
        first_version = skills.tools_version(LAZY)
        after = [tool.name for tool in await skills.tools(LAZY, Recorder())]
    kept = await tools_of(tmp_path, Recorder())

    assert first_version
    assert "gaze" in before
    assert "gaze" not in after
    assert "look" in after
    assert "look" in [tool.name for tool in kept]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stamp": [], "tools": [{"name": 1}]}'])
async def test_a_file_that_cannot_be_read_is_made_anew(tmp_path: Path, content: str) -> None:
    await tools_of(tmp_path, Recorder())
    (file,) = (tmp_path / "known").iterdir()
    file.write_text(content, encoding="utf-8")

    tools = await tools_of(tmp_path, Recorder())

    assert "echo" in [tool.name for tool in tools]


async def test_a_folder_that_cannot_be_written_costs_a_start_only(tmp_path: Path) -> None:
    (tmp_path / "known").write_text("not a folder", encoding="utf-8")

    tools = await tools_of(tmp_path, Recorder())

    assert "echo" in [tool.name for tool in tools]


async def test_a_server_that_does_not_start_any_more_is_a_result(tmp_path: Path) -> None:
    shutil.copy(PLAIN, tmp_path / "server.py")
    program = "import runpy; runpy.run_path('server.py')"
    skill = McpStdioSkill(
        type="mcpStdioSkill", command=sys.executable, args=("-S", "-c", program), lazy_init=True
    )
    tester = expert(plain=skill)
    await tools_of(tmp_path, Recorder(), tester)
    (tmp_path / "server.py").write_text("raise SystemExit('no licence')", encoding="utf-8")

    async with job(tmp_path, tester) as skills:
        tools = await skills.tools(tester, Recorder())
        result = await skills.call(tester, call("echo"), "key")

    assert "echo" in [tool.name for tool in tools]
    assert result.is_error
    assert "no licence" in result.text


async def test_no_secret_gets_into_the_file(tmp_path: Path) -> None:
    text = PLAIN.read_text(encoding="utf-8").replace('"Says it again."', "os.environ['TOKEN']")
    (tmp_path / "server.py").write_text(text, encoding="utf-8")
    skill = McpStdioSkill(
        type="mcpStdioSkill",
        command=sys.executable,
        args=("-S", "server.py"),
        required_env=("TOKEN",),
        lazy_init=True,
    )
    tester = expert(plain=skill)

    async with job(tmp_path, tester, {"TOKEN": "the-secret-value"}) as skills:
        await skills.tools(tester, Recorder())

    (file,) = (tmp_path / "known").iterdir()
    assert "the-secret-value" not in file.read_text(encoding="utf-8")
    assert "[TOKEN]" in file.read_text(encoding="utf-8")


async def test_what_the_machine_lacks_is_told_before_the_first_call(tmp_path: Path) -> None:
    tester = expert(plain=plain(lazy_init=True, required_env=("SERVICE_TOKEN",)))
    async with job(tmp_path, tester, {"SERVICE_TOKEN": "x"}) as skills:
        await skills.tools(tester, Recorder())

    async with job(tmp_path, tester) as skills:
        with pytest.raises(SkillError, match="requires environment variable SERVICE_TOKEN"):
            await skills.tools(tester, Recorder())


async def test_a_call_that_a_resumed_job_still_owes_starts_the_server(tmp_path: Path) -> None:
    await tools_of(tmp_path, Recorder())

    async with job(tmp_path) as skills:
        result = await skills.call(LAZY, call("echo", text="1"), "key")

    assert result.text == "1"


async def test_jobs_can_share_a_server_that_the_first_call_starts(tmp_path: Path) -> None:
    tester = expert(plain=plain(lazy_init=True, scope="engine"))
    await tools_of(tmp_path, Recorder(), tester)
    one_told, two_told = Recorder(), Recorder()
    definitions = Definitions(experts={tester.key: tester})
    async with (
        open_engine_skills(
            workspace=tmp_path,
            environment={"PATH": os.environ["PATH"]},
            tools_folder=tmp_path / "known",
            timeouts=SkillTimeouts(grace_seconds=0.3),
        ) as engine,
        engine.open_job(definitions) as one,
        engine.open_job(definitions) as two,
    ):
        await one.tools(tester, one_told)
        await two.tools(tester, two_told)
        before = [*one_told.events, *two_told.events]
        pids = {(await skills.call(tester, call("pid"), "key")).text for skills in (one, two)}

    assert before == []
    assert len(pids) == 1
