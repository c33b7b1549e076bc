"""One table of everything that users get wrong or that fails around them, on both faces."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

GOOD = """
[provider]
providerName = "scripted"
[provider.setting]
script = "script.toml"
[experts."a"]
instruction = "Work."
"""
SCRIPT = '[[experts.a]]\ntext = "fine"\n'
OPENAI = '[provider]\nproviderName = "openai"\n[experts."a"]\ninstruction = "Work."\n'
NOWHERE = "http://127.0.0.1:9/v1"
DEAD_SKILL = """
[experts."a".skills."dead"]
type = "mcpStdioSkill"
command = "no-such-program"
args = ["x"]
"""
GONE_SKILL = f"""
[experts."a".skills."gone"]
type = "mcpStdioSkill"
command = {json.dumps(sys.executable)}
args = ["-c", "import sys; sys.exit('no licence found')"]
"""


@dataclass(frozen=True)
class Case:
    """What is wrong, and what the user must read."""

    name: str
    toml: bytes | None
    says: tuple[str, ...]
    exit_code: int
    query: str = "go"
    expert: str = "a"
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    has_blocked_store: bool = False
    says_to_clients: tuple[str, ...] | None = None


LONG = "x" * 1_000_000
CASES = (
    Case("no file", None, ("perstack.toml not found", "--config"), 2),
    Case("broken TOML", b'[experts."a"\n', ("perstack.toml:1:", "header"), 2),
    Case("binary garbage", bytes(range(128, 256)), ("perstack.toml", "UTF-8"), 2),
    Case(
        "wrong types",
        b'maxSteps = "many"\n[experts."a"]\ninstruction = 3\n',
        ("perstack.toml:1:", "maxSteps", "perstack.toml:3:", "instruction"),
        2,
    ),
    Case(
        "unknown delegate",
        b'[experts."a"]\ninstruction = "x"\ndelegates = ["@a/revew"]\n'
        b'[experts."@a/review"]\ninstruction = "x"\n',
        ("perstack.toml:3:", "@a/revew", "did you mean", "@a/review"),
        2,
        says_to_clients=("Unknown tool 'a'",),
    ),
    Case("unknown expert", GOOD.encode(), ("'b'", "The experts are: a"), 2, expert="b"),
    Case("missing key", OPENAI.encode(), ("OPENAI_API_KEY is not set", ".env"), 2),
    Case(
        "a skill whose program is missing",
        (GOOD + DEAD_SKILL).encode(),
        ("'dead'", "no-such-program", "not found"),
        1,
    ),
    Case(
        "a skill that ends at once",
        (GOOD + GONE_SKILL).encode(),
        ("'gone'", "no licence found"),
        1,
    ),
    Case(
        "a model endpoint that is down",
        ("maxRetries = 0\n" + OPENAI).encode(),
        ("cannot reach 127.0.0.1:9",),
        1,
        environment={"OPENAI_API_KEY": "sk-secret-1234", "OPENAI_BASE_URL": NOWHERE},
    ),
    Case(
        "a workspace that cannot be written",
        GOOD.encode(),
        ("store", "writable"),
        1,
        has_blocked_store=True,
    ),
    Case("a query of a megabyte", GOOD.encode(), ("1,000,000", "500,000", "file"), 2, query=LONG),
    Case(
        "an empty query",
        GOOD.encode(),
        ("Query is required",),
        2,
        query=" ",
        says_to_clients=("query is empty",),
    ),
)
STARTS_A_SERVER = {"unknown delegate", "unknown expert", "a query of a megabyte", "an empty query"}
RUN_TIME = {
    "missing key",
    "a skill whose program is missing",
    "a skill that ends at once",
    "a model endpoint that is down",
    "a workspace that cannot be written",
}


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The case's files."""
    case: Case = request.getfixturevalue("case")
    if case.toml is not None:
        (tmp_path / "perstack.toml").write_bytes(case.toml)
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    if case.has_blocked_store:
        (tmp_path / "perstack").write_text("in the way", encoding="utf-8")
    return tmp_path


def perstack(words: list[str], folder: Path, case: Case, stdin: bytes) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    done = subprocess.run(
        [sys.executable, "-m", "perstack", *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **case.environment},
        input=stdin,
        capture_output=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_command_says_what_is_wrong_and_exits_accordingly(case: Case, folder: Path) -> None:
    code, out, error = perstack(["run", case.expert, "-"], folder, case, case.query.encode())
    for words in case.says:
        assert words in error, error
    assert code == case.exit_code
    assert "Traceback" not in error
    assert "secret" not in out + error
    for line in out.splitlines():
        json.loads(line)


def rpc(request_id: int | None, method: str, **params: Any) -> bytes:
    """One message of a client."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if request_id is not None:
        message["id"] = request_id
    return json.dumps(message).encode() + b"\n"


def session(case: Case) -> bytes:
    """A whole session: garbage, handshake, the bad call, and one that must still work."""
    client = {"name": "test", "version": "1"}
    arguments = {"query": case.query, "wait_seconds": 40}
    return b"".join(
        (
            rpc(1, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client),
            rpc(None, "notifications/initialized"),
            bytes(range(128, 255)) + b"\n{not json\n",
            rpc(2, "tools/call", name=case.expert, arguments=arguments),
        )
    )


def answers(out: str) -> dict[int, dict[str, Any]]:
    """The answers by request; every line of stdout must be a message."""
    messages = [json.loads(line) for line in out.splitlines()]
    return {
        message["id"]: message
        for message in messages
        if "id" in message and "method" not in message
    }


REFUSED = [
    case for case in CASES if case.exit_code == 2 and case.name not in STARTS_A_SERVER | RUN_TIME
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_server_that_cannot_start_says_why_on_stderr_alone(case: Case, folder: Path) -> None:
    code, out, error = perstack(["serve"], folder, case, session(case))
    for words in case.says:
        assert words in error, error
    assert code == case.exit_code
    assert "Traceback" not in error
    assert out == ""


CALLED = [case for case in CASES if case.name in STARTS_A_SERVER | RUN_TIME]


@pytest.mark.parametrize("case", CALLED, ids=lambda case: case.name)
def test_a_call_that_cannot_be_done_is_an_error_that_the_model_can_read(
    case: Case, folder: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "perstack", "serve"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **case.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(session(case))
        process.stdin.flush()
        lines = [process.stdout.readline().decode()]
        while 2 not in answers("".join(lines)):
            lines.append(process.stdout.readline().decode())
        process.stdin.write(rpc(3, "tools/list"))
        process.stdin.flush()
        while 3 not in answers("".join(lines)):
            lines.append(process.stdout.readline().decode())
        process.stdin.close()
        code = process.wait(30)
    found = answers("".join(lines))
    told = json.dumps(found[2])
    assert found[2].get("error") or found[2]["result"]["isError"]
    if case.name != "unknown expert":
        for words in case.says_to_clients or case.says:
            assert words in told, told
    assert "secret" not in told
    assert found[3]["result"]["tools"]
    assert code == 0
