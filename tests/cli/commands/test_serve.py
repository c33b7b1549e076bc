"""`perstack serve`: what it hands to the server, and what it says to people."""

import io
import json
import os
import pty
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

from perstack.cli.commands import serve
from perstack.cli.main import main
from perstack.cli.serve_args import wait_policy_settings
from perstack.cli.terminal import Terminal
from perstack.server.tools.wait import WaitPolicy
from perstack.settings import Settings

SERVE = [sys.executable, "-m", "perstack", "serve"]
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def options_of(*words: str) -> Namespace:
    parser = ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(words)


def parsed(*words: str) -> Settings:
    return serve.serve_settings_from(options_of(*words))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "perstack.toml"
    path.write_text(
        '[experts.lead]\ninstruction = "Lead."\ndelegates = ["@lead/worker"]\n'
        '[experts."@lead/worker"]\ninstruction = "Work."\n',
        encoding="utf-8",
    )
    return path


def listed(*options: str, folder: Path) -> list[str]:
    """The names of the tools that a server has."""
    requests: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": INITIALIZE},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list", "params": {}},
    ]
    lines = "".join(json.dumps({"jsonrpc": "2.0", **request}) + "\n" for request in requests)
    done = subprocess.run(
        [*SERVE, *options],
        input=lines,
        capture_output=True,
        check=True,
        cwd=folder,
        text=True,
        encoding="utf-8",
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    answer = next(answer for answer in answers if answer.get("id") == 2)
    return [tool["name"] for tool in answer["result"]["tools"]]


def test_a_client_sees_coordinators_and_the_tools_for_jobs(config: Path) -> None:
    assert listed(folder=config.parent) == [
        "lead",
        "perstack_job",
        "perstack_jobs",
        "perstack_cancel",
    ]


def test_delegates_are_published_and_job_tools_left_out_on_request(
    config: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    options = ("--config", str(config), "--publish", "all", "--no-job-tools")

    assert listed(*options, folder=elsewhere) == ["lead", "lead__worker"]
    assert list(elsewhere.iterdir()) == []


def test_arguments_become_settings() -> None:
    settings = parsed(
        *("--config", "p.toml", "--workspace", "w", "--provider", "openai", "--model", "m"),
        *("--reasoning-budget", "high", "--max-steps", "7", "--max-retries", "0"),
        *("--timeout", "5000", "--env-path", "a.env", "--env-path", "b.env", "--strict"),
    )

    assert settings == Settings(
        config=Path("p.toml"),
        workspace=Path("w"),
        home="config",
        env_paths=("a.env", "b.env"),
        provider="openai",
        model="m",
        reasoning_budget="high",
        max_steps=7,
        max_retries=0,
        timeout_ms=5000,
        is_strict=True,
    )


def test_what_is_not_given_is_left_to_the_file_and_its_folder() -> None:
    assert parsed() == Settings(home="config")


def test_a_wait_is_for_all_clients_or_for_those_whose_name_begins_so() -> None:
    options = options_of("--wait-seconds", "30", "--wait-seconds=codex=120", "--task-after=0.5")

    windows = WaitPolicy(**wait_policy_settings(options))

    assert windows == WaitPolicy(default_seconds=30, by_client={"codex": 120}, grace_seconds=0.5)


@pytest.mark.parametrize("seconds", ["-1", "soon", "nan", "3601", "codex=", "codex=soon"])
def test_a_wait_that_is_none_is_refused(seconds: str) -> None:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())

    assert main(["serve", f"--wait-seconds={seconds}"], terminal) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8000", ("127.0.0.1", 8000)),
        ("0", ("127.0.0.1", 0)),
        ("localhost:8000", ("localhost", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
    ],
)
def test_it_listens_on_this_machine_unless_told_otherwise(
    text: str, expected: tuple[str, int]
) -> None:
    assert options_of("--http", text).http == expected


def test_hosts_and_origins_are_taken_as_clients_name_them() -> None:
    options = options_of(
        "--allowed-host", "Experts.Example.com:8443", "--allowed-origin", "https://App.example.com/"
    )

    assert options.allowed_host == ["experts.example.com:8443"]
    assert options.allowed_origin == ["https://app.example.com"]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--allowed-host", "https://experts.example.com"),
        ("--allowed-host", ""),
        ("--allowed-origin", "app.example.com"),
        ("--allowed-origin", "https://app.example.com/page"),
        ("--allowed-origin", "https://*.example.com"),
        ("--allowed-origin", "*"),
    ],
)
def test_what_no_client_would_name_is_refused(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options_of("--http", "0", option, text)
    assert f"{text!r} is not" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("--http", "http://localhost:8000"),
        ("--http", "65536"),
        ("--http", "-1"),
        ("--http", "localhost"),
        ("--sse",),
        ("--allowed-host", "example.com"),
        ("--http", "192.0.2.1:8000"),
    ],
)
def test_what_does_not_say_where_it_listens_and_for_whom_is_refused(
    config: Path, words: tuple[str, ...]
) -> None:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())

    assert main(["serve", "--config", str(config), *words], terminal) == 2


def test_a_broken_definition_ends_it_with_the_places_on_stderr(config: Path) -> None:
    config.write_text("[experts.lead]\ninstruction = 1\n", encoding="utf-8")

    done = subprocess.run(
        [*SERVE, "--config", str(config)],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "perstack.toml:2:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_person_who_starts_it_is_told_how_to_plug_it_in(config: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*SERVE, "--config", str(config)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        os.close(theirs)
        assert process.stderr is not None
        hint = process.stderr.readline()
        os.close(ours)
        process.terminate()

    assert "waiting for an MCP client" in hint
    configured = json.loads(hint[hint.index("{") :])["mcpServers"]["perstack"]
    assert configured == {"command": "perstack", "args": ["serve", "--config", str(config)]}
