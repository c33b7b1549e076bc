"""How long a server may take until it is ready, and what is said while it takes long."""

from pathlib import Path

import pytest

from perstack.definition.model import McpSseSkill, McpStdioSkill
from perstack.errors import SkillError
from perstack.skills.context import SkillTimeouts
from perstack.skills.server_command import ServerSpec
from tests.skills.harness import Recorder, call, expert, opened, plain

pytestmark = pytest.mark.anyio

DEFAULTS = SkillTimeouts()


async def test_a_skill_may_be_given_longer_to_start(tmp_path: Path) -> None:
    tester = expert(plain=plain(start_timeout=60_000))

    async with opened(tmp_path, start_seconds=0.001) as skills:
        await skills.tools(tester, Recorder())
        result = await skills.call(tester, call("echo", text="ready"), "key")

    assert result.text == "ready"


async def test_a_start_that_takes_too_long_names_the_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as skills:
        with pytest.raises(SkillError, match=r"not ready within 0\.4 seconds") as raised:
            await skills.tools(expert(plain=plain("mute", start_timeout=400)), Recorder())

    assert "startTimeout = 120000 (milliseconds)" in (raised.value.hint or "")


async def test_a_start_that_takes_long_is_told(tmp_path: Path) -> None:
    told = Recorder()

    async with opened(tmp_path, slow_start_seconds=0.05) as skills:
        with pytest.raises(SkillError):
            await skills.tools(expert(plain=plain("mute", start_timeout=400)), told)

    assert told.lines() == (
        "(still starting after 0.05 seconds, of the 0.4 that startTimeout allows; a first start "
        "may have to download the server)"
    )


@pytest.mark.parametrize(
    ("command", "seconds"),
    [("npx", 300), ("/usr/local/bin/uvx", 300), ("npx.cmd", 300), ("docker", 300), ("node", 60)],
)
def test_a_command_that_may_download_has_longer(command: str, seconds: float) -> None:
    skill = McpStdioSkill(type="mcpStdioSkill", command=command, args=("server",))

    assert ServerSpec(skill).timeouts(DEFAULTS).start_seconds == seconds
    assert ServerSpec(skill, ("node", "x")).timeouts(DEFAULTS).start_seconds == 60


def test_a_server_over_http_may_be_given_longer() -> None:
    skill = McpSseSkill(type="mcpSseSkill", endpoint="https://a.example", start_timeout=90_500)

    assert ServerSpec(skill).timeouts(DEFAULTS).start_seconds == 90.5


def test_experts_share_a_server_for_which_they_wait_differently() -> None:
    one, other = (plain(start_timeout=timeout) for timeout in (1_000, None))

    assert ServerSpec(one).identity == ServerSpec(other).identity
