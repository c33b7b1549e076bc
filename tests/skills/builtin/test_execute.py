"""Commands: what they are given, what they answer, and that nothing of them is left."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from perstack.skills.builtin.execute import MAX_KEPT_BYTES
from perstack.skills.builtin.skill import BuiltInSkill
from perstack.skills.subprocesses import Launcher, ProcessGuard
from tests.skills.builtin.calling import Facts, ask, facts_of, put, refused, told
from tests.skills.builtin.conftest import CANARY

pytestmark = pytest.mark.anyio

IGNORES_THE_REQUEST_TO_STOP = "trap '' TERM; while :; do sleep 1; done"


async def shell(skill: BuiltInSkill, line: str, **args: object) -> Facts:
    return await told(skill, "exec", command="sh", args=["-c", line], **args)


async def failing_shell(skill: BuiltInSkill, line: str, **args: object) -> Facts:
    return await refused(skill, "exec", command="sh", args=["-c", line], **args)


async def pid_in(path: Path) -> int:
    """The process id that a command writes to a file, once it has."""
    while True:
        text = path.read_text(encoding="ascii") if path.exists() else ""
        if text.endswith("\n"):
            return int(text)
        await anyio.lowlevel.checkpoint()


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in {"Z", "X"}


async def nothing_lives_in(folder: Path) -> None:
    with anyio.fail_after(30):
        while living_in(folder):
            await anyio.lowlevel.checkpoint()


def living_in(folder: Path) -> list[int]:
    """The processes whose current directory this is, the dead but not yet collected left out."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder.resolve() and is_alive(int(process.name)):
                found.append(int(process.name))
    return found


def open_handles() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


only_with_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


async def test_a_command_answers_with_what_it_wrote_first_to_stdout_then_to_stderr(
    skill: BuiltInSkill,
) -> None:
    facts = await shell(skill, "echo warning >&2; echo hello")

    assert facts == {"output": "hello\nwarning\n"}


@pytest.mark.parametrize(
    ("stdout", "stderr", "output"),
    [
        (True, False, "hello\n"),
        (False, True, "warning\n"),
        (False, False, "Command executed successfully, but produced no output."),
    ],
)
async def test_only_the_streams_that_are_wanted_are_answered(
    skill: BuiltInSkill, *, stdout: bool, stderr: bool, output: str
) -> None:
    facts = await shell(skill, "echo hello; echo warning >&2", stdout=stdout, stderr=stderr)

    assert facts == {"output": output}


async def test_a_command_that_says_nothing_is_answered_with_a_sentence(skill: BuiltInSkill) -> None:
    assert await told(skill, "exec", command="true") == {
        "output": "Command executed successfully, but produced no output."
    }


async def test_arguments_are_passed_as_they_are_because_there_is_no_shell(
    skill: BuiltInSkill,
) -> None:
    args = ["%s|", "$HOME", "a b", "*", "; ls", "`id`", ""]

    facts = await told(skill, "exec", command="printf", args=args)

    assert facts["output"] == "$HOME|a b|*|; ls|`id`||"


@pytest.mark.parametrize("text", ["two words", "", "[1", '["a"]', "-n"])
async def test_a_text_in_place_of_the_arguments_is_one_argument(
    skill: BuiltInSkill, text: str
) -> None:
    facts = await told(skill, "exec", command="printf", args=f"%s|{text}|")

    assert facts["output"] == f"|{text}|"


async def test_a_command_runs_in_the_folder_that_was_named(
    skill: BuiltInSkill, workspace: Path
) -> None:
    (workspace / "docs").mkdir()

    assert (await shell(skill, "pwd -P"))["output"].strip() == str(workspace.resolve())
    assert (await shell(skill, "pwd -P", cwd="docs"))["output"].strip().endswith("/docs")


async def test_a_script_of_the_workspace_is_found_by_its_path(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "tools/run.sh", "#!/bin/sh\necho ran\n").chmod(0o755)

    assert await told(skill, "exec", command="./run.sh", cwd="tools") == {"output": "ran\n"}


async def test_a_command_reads_nothing_from_the_input_of_perstack(skill: BuiltInSkill) -> None:
    with anyio.fail_after(30):
        assert "no output" in (await told(skill, "exec", command="cat"))["output"]


async def test_a_failing_command_tells_its_exit_code_and_all_it_wrote(skill: BuiltInSkill) -> None:
    facts = await failing_shell(
        skill, "echo partly; echo broken >&2; exit 3", stdout=False, stderr=False
    )

    assert facts == {
        "error": "CommandFailed",
        "message": "Command exited with code 3.",
        "exitCode": 3,
        "stdout": "partly\n",
        "stderr": "broken\n",
    }


async def test_a_command_that_a_signal_ends_tells_which(skill: BuiltInSkill) -> None:
    facts = await failing_shell(skill, "kill -KILL $$")

    assert facts["message"] == "Command was ended by SIGKILL."
    assert facts["exitCode"] == -signal.SIGKILL


@pytest.mark.parametrize(
    ("command", "cwd", "error", "message"),
    [
        ("no-such-program-anywhere", ".", "CommandNotFound", "was not found"),
        ("ls -l", ".", "CommandNotFound", "sh with args -c"),
        ("./no.sh", ".", "CommandNotFound", "was not found"),
        ("./plain.txt", ".", "CommandNotFound", "is not an executable file."),
        ("./broken", ".", "IOError", "exec format error"),
        ("ls", "no", "NotFound", "Directory no does not exist."),
        ("ls", "plain.txt", "NotADirectory", "Path plain.txt is not a directory"),
    ],
)
async def test_a_command_that_cannot_be_started_says_why(
    skill: BuiltInSkill, workspace: Path, command: str, cwd: str, error: str, message: str
) -> None:
    put(workspace, "plain.txt", "hello")
    put(workspace, "broken", "\x01\x02").chmod(0o755)

    facts = await refused(skill, "exec", command=command, cwd=cwd)

    assert facts["error"] == error
    assert message in facts["message"]


async def test_no_handle_is_left_open_after_commands(skill: BuiltInSkill) -> None:
    await told(skill, "exec", command="true")
    before = open_handles()

    await told(skill, "exec", command="true")
    await refused(skill, "exec", command="no-such-program-anywhere")
    await failing_shell(skill, "sleep 60", timeout=1)

    assert open_handles() == before


async def test_much_output_is_cut_in_the_middle(skill: BuiltInSkill) -> None:
    facts = await shell(skill, "echo first; yes '✓ and so on' | head -n 100000; echo last")

    assert facts["output"].startswith("first\n")
    assert facts["output"].endswith("last\n")
    assert "bytes left out" in facts["output"]
    assert len(facts["output"].encode()) < MAX_KEPT_BYTES + 500
    assert list(facts)[-1] == "note"
    omitted = facts["output"].partition(" bytes left out")[0].rpartition(" ")[2]
    assert facts["note"] == f"The command wrote {omitted} bytes more, which are not kept."


async def test_output_that_just_fits_is_whole(skill: BuiltInSkill) -> None:
    facts = await told(skill, "exec", command="printf", args=[f"%{MAX_KEPT_BYTES}s", "x"])

    assert facts["output"] == " " * (MAX_KEPT_BYTES - 1) + "x"


async def test_a_command_that_floods_is_stopped(skill: BuiltInSkill) -> None:
    with anyio.fail_after(30):
        facts = await refused(skill, "exec", command="yes", timeout=60_000)

    assert facts["error"] == "TooLarge"
    assert "more than 10 MiB" in facts["message"]
    assert facts["stdout"].startswith("y\ny\n")


async def test_output_that_is_no_text_is_answered_readably(skill: BuiltInSkill) -> None:
    assert await shell(skill, r"printf 'a\377b'") == {"output": "a\ufffdb"}


async def test_a_command_that_takes_too_long_is_ended_and_what_it_wrote_is_told(
    skill: BuiltInSkill,
) -> None:
    facts = await failing_shell(skill, "echo begun; sleep 60", timeout=300)

    assert facts == {
        "error": "CommandTimedOut",
        "message": "Command timed out after 300ms.",
        "stdout": "begun\n",
    }


@only_with_proc
async def test_a_timeout_ends_what_the_command_started(
    skill: BuiltInSkill, workspace: Path
) -> None:
    facts = await failing_shell(skill, "sh -c 'sleep 300' & wait", timeout=500)

    assert facts["error"] == "CommandTimedOut"
    await nothing_lives_in(workspace)


@only_with_proc
async def test_a_command_that_will_not_stop_is_killed(skill: BuiltInSkill, workspace: Path) -> None:
    with anyio.fail_after(30):
        facts = await failing_shell(skill, IGNORES_THE_REQUEST_TO_STOP, timeout=200)

    assert facts["error"] == "CommandTimedOut"
    await nothing_lives_in(workspace)


@only_with_proc
async def test_what_a_command_leaves_in_the_background_ends_with_it(
    skill: BuiltInSkill, workspace: Path
) -> None:
    with anyio.fail_after(30):
        facts = await shell(skill, "sleep 300 & echo started")

    assert facts["output"] == "started\n"
    assert facts["note"].startswith("Ended with the command, which left it in the background: ")
    assert "sleep 300" in facts["note"]
    await nothing_lives_in(workspace)


@only_with_proc
async def test_a_few_of_many_that_are_ended_are_named_in_short(skill: BuiltInSkill) -> None:
    line = "for n in 1 2 3 4 5 6 7; do sleep 30$n & done; exec sleep 0.2"

    with anyio.fail_after(30):
        note = (await shell(skill, line))["note"]

    assert note.count("sleep 30") == 5
    assert "and 2 more" in note


@only_with_proc
async def test_a_command_that_fails_names_what_it_left_too(skill: BuiltInSkill) -> None:
    with anyio.fail_after(30):
        facts = await failing_shell(skill, f"sleep 300 {'0' * 200} & exit 3")

    assert facts["exitCode"] == 3
    assert "0…" in facts["note"]
    assert "0" * 101 not in facts["note"]


async def test_a_pipe_that_has_ended_leaves_nothing_to_name(skill: BuiltInSkill) -> None:
    assert await shell(skill, "echo a | cat | cat") == {"output": "a\n"}


@only_with_proc
async def test_one_that_left_the_group_and_holds_the_pipes_does_not_hang_the_call(
    skill: BuiltInSkill, workspace: Path
) -> None:
    line = "setsid sh -c 'echo $$ > pid; exec sleep 300' & while [ ! -s pid ]; do :; done; echo on"

    with anyio.fail_after(30):
        facts = await shell(skill, line)
        escaped = await pid_in(workspace / "pid")

    os.kill(escaped, signal.SIGKILL)
    assert facts == {"output": "on\n"}


@only_with_proc
async def test_a_cancelled_call_ends_the_command_and_what_it_started(
    skill: BuiltInSkill, workspace: Path
) -> None:
    line = "sh -c 'echo $$ > pid; sleep 300' & wait"

    started = 0
    async with anyio.create_task_group() as group:
        group.start_soon(failing_shell, skill, line)
        with anyio.fail_after(30):
            started = await pid_in(workspace / "pid")
        assert is_alive(started)
        group.cancel_scope.cancel()

    await nothing_lives_in(workspace)


@only_with_proc
@pytest.mark.parametrize("turns", range(8))
async def test_a_call_that_is_cancelled_while_the_command_starts_leaves_nothing(
    skill: BuiltInSkill, workspace: Path, turns: int
) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(failing_shell, skill, "sleep 300 & sleep 300")
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    await nothing_lives_in(workspace)


async def test_several_commands_run_at_the_same_time(skill: BuiltInSkill) -> None:
    """Each of two commands waits for a file that the other one makes."""
    line = "touch {0}; while [ ! -e {1} ]; do :; done; echo met"
    answers: list[Facts] = []

    async def run(own: str, other: str) -> None:
        answers.append(await shell(skill, line.format(own, other), timeout=10_000))

    async with anyio.create_task_group() as group:
        group.start_soon(run, "a", "b")
        group.start_soon(run, "b", "a")

    assert answers == [{"output": "met\n"}] * 2


class Guarded(ProcessGuard):
    """Notes the process groups that it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, int]] = []

    async def prepare(self) -> None:
        return

    async def guard(self, group: int) -> None:
        self.log.append(("guard", group))

    async def release(self, group: int) -> None:
        self.log.append(("release", group))


async def test_who_watches_over_process_groups_is_told_of_each(workspace: Path) -> None:
    guarded = Guarded()
    skill = BuiltInSkill(workspace, {"PATH": os.environ["PATH"]}, launcher=Launcher(guarded))

    group = int((await shell(skill, "echo $$"))["output"])

    assert guarded.log == [("guard", group), ("release", group)]


async def test_a_command_gets_the_variables_that_are_set_for_it_and_no_secret(
    skill: BuiltInSkill,
) -> None:
    facts = await told(skill, "exec", command="env", env={"MODE": "test", "LANG": "C"})

    given = dict(line.split("=", 1) for line in facts["output"].splitlines())
    assert given.keys() == {"PATH", "HOME", "MODE", "LANG"}
    assert given["MODE"] == "test"
    assert CANARY not in facts["output"]


async def test_a_variable_that_decides_what_runs_is_not_set_and_that_is_said(
    skill: BuiltInSkill,
) -> None:
    env = {"PATH": "/evil", "ld_preload": "/evil.so", "Bash_Env": "/evil", "FINE": "1"}

    facts = await told(skill, "exec", command="env", env=env)

    assert "/evil" not in facts["output"]
    assert "FINE=1" in facts["output"]
    assert facts["note"] == "Not set, because these are protected: PATH, ld_preload, Bash_Env."


async def test_a_refused_variable_is_also_said_when_the_command_fails(skill: BuiltInSkill) -> None:
    result = await ask(skill, "exec", command="false", env={"PATH": "/evil"})

    assert result.is_error
    assert "PATH" in facts_of(result)["note"]
