"""How long a call waits, by who calls."""

from pathlib import Path

import anyio
import pytest
from mcp_types import CancelledNotification, CancelledNotificationParams

from perstack.server.caller import Caller
from perstack.server.tools.wait import (
    CLIENT_SECONDS,
    DEFAULT_WAIT_SECONDS,
    REMOTE_CLIENT_SECONDS,
    WaitPolicy,
)
from tests.fakes import FakeModel, FakeSkills, call, calls, done
from tests.server.harness import Mode, facts, stage, until_called

LIMITS = {"claude-code": (1800, 300), "codex": (300, 300), "gemini-cli": (600, 600)}
"""After how many seconds clients were seen to give up, by stdio and by HTTP."""


def test_a_client_that_is_not_known_is_not_kept_waiting() -> None:
    assert (
        WaitPolicy().expert_call_seconds(Caller(client_name="claude-ai"), None)
        == DEFAULT_WAIT_SECONDS
    )
    assert WaitPolicy().expert_call_seconds(Caller(), None) == DEFAULT_WAIT_SECONDS


@pytest.mark.parametrize(
    ("name", "is_remote", "seconds"),
    [
        ("claude-code", False, 1500),
        ("Claude-Code (via a proxy)", True, 240),
        ("codex-mcp-client", False, 240),
        ("gemini-cli-mcp-client-perstack", True, 540),
        ("qwen-code", False, 540),
        ("opencode", False, 300),
        ("not-codex", False, DEFAULT_WAIT_SECONDS),
    ],
)
def test_a_known_client_is_kept_waiting_as_long_as_it_allows(
    name: str, seconds: float, *, is_remote: bool
) -> None:
    windows = WaitPolicy(is_remote=is_remote)
    assert windows.expert_call_seconds(Caller(client_name=name), None) == seconds


def test_no_window_is_longer_than_what_a_client_was_seen_to_allow() -> None:
    for name, (local, remote) in LIMITS.items():
        assert CLIENT_SECONDS[name] < local
        assert REMOTE_CLIENT_SECONDS[name] < remote


def test_what_the_call_says_goes_before_what_the_user_says() -> None:
    windows = WaitPolicy(default_seconds=100, by_client={"codex": 200, "codex-mcp": 250})
    codex = Caller(client_name="codex-mcp-client")
    assert windows.expert_call_seconds(codex, 7) == 7
    assert windows.expert_call_seconds(codex, None) == 250
    assert windows.expert_call_seconds(Caller(client_name="claude-code"), None) == 100


@pytest.mark.parametrize(("asked", "seconds"), [(None, 5), (45, 5), (2, 2), (0, 0)])
def test_a_call_that_can_become_a_task_waits_no_longer_than_the_grace(
    asked: float | None, seconds: float
) -> None:
    caller = Caller(client_name="claude-code", has_tasks=True)
    assert WaitPolicy().expert_call_seconds(caller, asked) == seconds
    assert WaitPolicy().job_tool_seconds(caller, asked) == (1500 if asked is None else asked)


@pytest.mark.parametrize(
    ("windows", "seconds"),
    [
        (WaitPolicy(), None),
        (WaitPolicy(default_seconds=30), 30),
        (WaitPolicy(default_seconds=30, by_client={"codex": 60}), None),
    ],
)
def test_clients_are_told_a_number_only_where_it_is_the_same_for_all(
    windows: WaitPolicy, seconds: float | None
) -> None:
    assert windows.advertised_seconds == seconds


@pytest.mark.anyio
async def test_the_name_that_a_client_gives_itself_decides(tmp_path: Path, mode: Mode) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"reviewer": [calls(call("echo", "c1")), done("late")]})
    windows = WaitPolicy(default_seconds=60, by_client={"mcp": 0})
    async with stage(tmp_path, mode, model, skills=skills, windows=windows) as here:
        with anyio.fail_after(30):
            result = await here.call("reviewer", query="look")
    assert facts(result)["status"] == "running"


@pytest.mark.anyio
async def test_a_cancellation_that_comes_after_the_answer_leaves_the_job_alone(
    tmp_path: Path, mode: Mode
) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"reviewer": [calls(call("echo", "c1")), done("late")]})
    async with stage(tmp_path, mode, model, skills=skills) as here:
        early = await here.call("reviewer", query="look", wait_seconds=0)
        await until_called(skills)
        for request_id in range(10):
            late = CancelledNotification(params=CancelledNotificationParams(request_id=request_id))
            await here.client.session.send_notification(late)
        await anyio.wait_all_tasks_blocked()
        assert skills.gate is not None
        skills.gate.set()
        result = await here.call("perstack_job", job_id=facts(early)["job_id"])
    assert facts(result)["text"] == "late"
