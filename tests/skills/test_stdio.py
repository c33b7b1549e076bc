"""Skills that are child processes: how they are started, spoken to and lost."""

import json
import os
import sys
from pathlib import Path

import anyio
import pytest
from opentelemetry import trace

from perstack.definition.model import Definitions, McpStdioSkill
from perstack.errors import SkillError
from tests.skills.harness import PLAIN, Recorder, call, expert, opened, plain, until

pytestmark = pytest.mark.anyio

PARENT = trace.SpanContext(
    trace_id=0xAB, span_id=0xCD, is_remote=False, trace_flags=trace.TraceFlags(1)
)


async def test_the_listener_is_told_each_phase(tmp_path: Path) -> None:
    told = Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(expert(plain=plain()), told)

    kinds = [event[0] for event in told.events]
    assert kinds == ["connecting", "starting", "connected", "disconnected"]
    _, name, info, durations = told.of("connected")[0]
    assert (name, info) == ("plain", {"name": "plain", "version": "1.2.3"})
    assert set(durations) == {"spawn", "handshake", "toolDiscovery", "connect", "total"}
    assert 0 < durations["spawn"] < durations["total"]


async def test_a_server_works_in_the_workspace_with_the_environment_it_asked_for(
    tmp_path: Path,
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "REGION": "north",
        "OPENAI_API_KEY": "sk-1234567",
        "LD_PRELOAD": "evil.so",
    }
    tester = expert(plain=plain(required_env=("REGION", "LD_PRELOAD")))
    told = Recorder()

    async with opened(tmp_path, environment) as skills:
        await skills.tools(tester, told)
        folder = await skills.call(tester, call("cwd"), "key")
        seen = json.loads((await skills.call(tester, call("env"), "key")).text)

    assert Path(folder.text).resolve() == tmp_path.resolve()
    assert set(seen) == {"PATH", "LANG", "REGION"}
    assert "LD_PRELOAD is protected" in told.lines()


async def test_calls_carry_the_callers_trace_and_the_idempotency_key(tmp_path: Path) -> None:
    tester = expert(plain=plain())

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        with trace.use_span(trace.NonRecordingSpan(PARENT)):
            result = await skills.call(tester, call("meta"), "key-of-this-call")

    meta = json.loads(result.text)
    assert meta["perstack/idempotencyKey"] == "key-of-this-call"
    assert meta["traceparent"].split("-")[1:3] == [f"{0xAB:032x}", f"{0xCD:016x}"]


async def test_a_large_message_passes_whole(tmp_path: Path) -> None:
    tester, text = expert(plain=plain()), "0123456789" * 500_000

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        result = await skills.call(tester, call("echo", text=text), "key")

    assert result.text == text


async def test_experts_with_the_same_definition_share_a_server(tmp_path: Path) -> None:
    first = expert("first", plain=plain(pick=("pid",)))
    second = expert("second", plain=plain(omit=("echo",), rule="Be brief."))
    third = expert("third", plain=plain("name=other"))

    async with opened(tmp_path) as skills:
        pids: list[str] = []
        for tester in (first, second, third, first):
            await skills.tools(tester, Recorder())
            pids.append((await skills.call(tester, call("pid"), "key")).text)

    assert pids[0] == pids[1] == pids[3] != pids[2]


async def test_runs_that_ask_at_once_get_one_server(tmp_path: Path) -> None:
    tester, told = expert(plain=plain()), Recorder()

    async with opened(tmp_path) as skills, anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(skills.tools, tester, told)

    assert len(told.of("starting")) == 1


async def test_a_call_may_come_before_the_tools_are_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as skills:
        result = await skills.call(expert(plain=plain()), call("echo", text="resumed"), "key")

    assert result.text == "resumed"


async def test_a_call_during_which_the_server_dies_is_an_error_and_the_next_one_starts_it_again(
    tmp_path: Path,
) -> None:
    tester, told = expert(plain=plain()), Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        died = await skills.call(tester, call("die"), "key1")
        again = await skills.call(tester, call("echo", text="back"), "key2")

    assert died.is_error
    assert "'plain' ended" in died.text
    assert "unknown" in died.text
    assert (again.text, again.is_error) == ("back", False)
    assert len(told.of("starting")) == 2


async def test_calls_after_a_death_share_the_new_server(tmp_path: Path) -> None:
    tester, told = expert(plain=plain()), Recorder()
    results: list[str] = []

    async def ask() -> None:
        results.append((await skills.call(tester, call("echo", text="back"), "key")).text)

    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        await skills.call(tester, call("die"), "key")
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)

    assert results == ["back"] * 3
    assert len(told.of("starting")) == 2


async def test_a_cancelled_call_is_cancelled_at_the_server(tmp_path: Path) -> None:
    tester = expert(plain=plain())

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(skills.call, tester, call("wait"), "key")
            await until((tmp_path / "waiting").exists)
            tasks.cancel_scope.cancel()
        notices = json.loads((await skills.call(tester, call("cancelled"), "key")).text)

    assert [notice["reason"] for notice in notices] == ["caller cancelled"]


async def test_a_call_that_takes_too_long_is_cancelled_and_an_error(tmp_path: Path) -> None:
    tester = expert(plain=plain())

    async with opened(tmp_path, call_seconds=0.2) as skills:
        await skills.tools(tester, Recorder())
        late = await skills.call(tester, call("wait"), "key")
        notices = json.loads((await skills.call(tester, call("cancelled"), "key")).text)

    assert late.is_error
    assert "did not answer within 0.2 seconds" in late.text
    assert len(notices) == 1


@pytest.mark.parametrize(
    ("tool", "words"),
    [("error", "it did not work"), ("refuse", "no tools/call here")],
)
async def test_what_a_server_does_wrong_is_a_result(tmp_path: Path, tool: str, words: str) -> None:
    tester = expert(plain=plain())

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        result = await skills.call(tester, call(tool), "key")
        after = await skills.call(tester, call("echo", text="fine"), "key")

    assert result.is_error
    assert words in result.text
    assert after.text == "fine"


async def test_arguments_that_utf8_cannot_encode_are_an_error_and_the_server_is_kept(
    tmp_path: Path,
) -> None:
    tester, told = expert(plain=plain()), Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        result = await skills.call(tester, call("echo", text="a\ud800b"), "key")
        after = await skills.call(tester, call("echo", text="fine"), "key")

    assert result.is_error
    assert "half of a surrogate pair" in result.text
    assert after.text == "fine"
    assert len(told.of("starting")) == 1


async def test_a_result_that_strays_from_its_own_schema_is_kept(tmp_path: Path) -> None:
    tester = expert(plain=plain())

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        result = await skills.call(tester, call("stray"), "key")

    assert (result.text, result.is_error) == ("kept", False)


async def test_a_server_that_knows_only_the_older_handshake_is_started_again(
    tmp_path: Path,
) -> None:
    tester, told = expert(plain=plain("strict")), Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        result = await skills.call(tester, call("echo", text="old"), "key")

    assert result.text == "old"
    assert len(told.of("starting")) == 2
    assert len(told.of("connecting")) == len(told.of("connected")) == 1


async def test_a_server_that_knows_only_the_older_handshake_is_remembered(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    starts: list[int] = []

    for _ in range(2):
        told = Recorder()
        async with opened(tmp_path, environment) as skills:
            await skills.tools(expert(plain=plain("strict")), told)
        starts.append(len(told.of("starting")))

    assert starts == [2, 1]


async def test_what_a_server_prints_on_stdout_is_shown_and_harmless(tmp_path: Path) -> None:
    told = Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(expert(plain=plain("greet")), told)

    assert told.lines() == "(not a message, on stdout) Welcome to the plain server!"


async def test_a_server_that_dies_at_start_is_told_with_its_last_words_but_no_secret(
    tmp_path: Path,
) -> None:
    tester, told = expert(plain=plain("complain", required_env=("SERVICE_TOKEN",))), Recorder()

    async with opened(tmp_path, {"SERVICE_TOKEN": "s3cr3t-value"}) as skills:
        with pytest.raises(SkillError) as caught:
            await skills.tools(tester, told)

    message = str(caught.value)
    assert caught.value.skill == "plain"
    assert "exit code 3" in message
    assert "bad key [SERVICE_TOKEN] of" in message
    assert "plain.py complain" in message
    assert "s3cr3t-value" not in message + told.lines()
    assert told.of("failed") == [("failed", "plain", "SkillError")]


async def test_values_of_secret_arguments_are_not_told(tmp_path: Path) -> None:
    skill = plain("complain", "--api-key=abc123", "--token", "def456")
    told = Recorder()

    async with opened(tmp_path) as skills:
        with pytest.raises(
            SkillError, match=r"complain --api-key=\[redacted\] --token \[redacted\]"
        ):
            await skills.tools(expert(plain=skill), told)

    assert "abc123" not in str(told.events)
    assert "def456" not in str(told.events)


async def test_one_bad_skill_leaves_the_others_usable(tmp_path: Path) -> None:
    both = expert(plain=plain(), bad=plain("complain"))
    told = Recorder()

    async with opened(tmp_path) as skills:
        with pytest.raises(SkillError, match="'bad'"):
            await skills.tools(both, told)
        good = expert("good", plain=plain())
        await skills.tools(good, told)
        result = await skills.call(good, call("echo", text="well"), "key")

    assert result.text == "well"
    assert [event[1] for event in told.of("connected")] == ["plain"]


async def test_a_command_that_is_not_there_is_told_with_what_to_install(tmp_path: Path) -> None:
    skill = McpStdioSkill(type="mcpStdioSkill", command="uvx", package_name="mcp-server-time")

    async with opened(tmp_path, {"PATH": str(tmp_path)}) as skills:
        with pytest.raises(SkillError, match=r"'uvx' was not found.*Install uv"):
            await skills.tools(expert(time=skill), Recorder())


async def test_a_call_after_the_job_is_an_error(tmp_path: Path) -> None:
    tester = expert(plain=plain())
    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())

    result = await skills.call(tester, call("echo", text="late"), "key")

    assert (result.text, result.is_error) == ("The job has ended.", True)


async def test_the_base_skill_can_be_replaced_by_a_command(tmp_path: Path) -> None:
    definitions = Definitions(
        perstack_base_skill_command=(sys.executable, "-S", "-E", str(PLAIN), "name=mine")
    )
    tester = expert()

    async with opened(tmp_path, definitions=definitions) as skills:
        tools = await skills.tools(tester, Recorder())
        result = await skills.call(tester, call("echo", "@perstack/base", text="mine"), "key")

    assert {tool.skill_name for tool in tools} == {"@perstack/base"}
    assert result.text == "mine"
