"""Whatever the README tells a newcomer to write or to type works."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli

from perstack.cli.main import COMMANDS
from perstack.definition.loader import load_definitions
from tests.docs.blocks import Block, blocks, commands

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BLOCKS = blocks(README.read_text(encoding="utf-8"))
SCRIPT = '[[experts.reviewer]]\ntext = "Nothing to find."\n'
SCRIPTED = '\n[provider]\nproviderName = "scripted"\n'


def of(language: str) -> list[Block]:
    """The README's blocks in one language."""
    return [block for block in BLOCKS if block.language == language]


def is_definition(block: Block) -> bool:
    return "[experts." in block.text


definitions = [block for block in of("toml") if is_definition(block)]
client_files = [
    *(tomli.loads(block.text) for block in of("toml") if not is_definition(block)),
    *(json.loads(block.text) for block in of("json")),
]
shell_commands = [command for block in of("sh") for command in commands(block)]


@pytest.fixture
def reviewed(tmp_path: Path) -> Path:
    """A folder with the README's first expert, played from a script."""
    first = definitions[0].text
    (tmp_path / "perstack.toml").write_text(first + SCRIPTED, encoding="utf-8")
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / ".env").write_text(f"PERSTACK_SCRIPT={tmp_path / 'script.toml'}", encoding="utf-8")
    return tmp_path


def perstack(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "perstack", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("block", definitions, ids=lambda block: f"line {block.line}")
def test_every_definition_is_accepted_without_a_warning(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "perstack.toml"
    path.write_text(block.text, encoding="utf-8")
    assert load_definitions(path, strict=True).definitions.experts


def test_the_commands_after_the_first_expert_work_as_written(reviewed: Path) -> None:
    commands = [shlex.split(command, comments=True) for command in shell_commands]
    own = [words for words in commands if words and words[0] == "perstack"]
    assert [words[1] for words in own][:3] == ["check", "run", "log"]
    for words in [words for words in own if words[1] != "serve"]:
        done = perstack(words[1:], reviewed)
        assert done.returncode == 0, done.stderr
    assert "Nothing to find." in perstack(["log", "--json"], reviewed).stdout


def server_entries(configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """The servers of a client's configuration, whatever it calls them."""
    key = next(key for key in ("mcpServers", "servers", "mcp_servers") if key in configuration)
    return list(configuration[key].values())


@pytest.mark.parametrize("configuration", client_files)
def test_what_clients_are_told_to_start_is_a_server(
    configuration: dict[str, Any], reviewed: Path
) -> None:
    for entry in server_entries(configuration):
        assert entry["command"] == "perstack"
        assert_lists_tools(entry["args"], reviewed)


def test_the_command_that_adds_perstack_to_a_client_starts_a_server(reviewed: Path) -> None:
    adding = [command for command in shell_commands if " mcp add " in command and " -- " in command]
    assert adding
    for command in adding:
        words = shlex.split(command.partition(" -- ")[2])
        assert words[0] == "perstack"
        assert_lists_tools(words[1:], reviewed)


def test_the_server_for_many_clients_is_where_they_are_told_to_look(reviewed: Path) -> None:
    (serving,) = [shlex.split(line, comments=True) for line in shell_commands if " --http " in line]
    (adding,) = [shlex.split(line) for line in shell_commands if " mcp add --transport" in line]
    # Another program may have the port that the README takes for an example.
    words = ["0" if word == "8000" else word for word in serving[1:]]
    with subprocess.Popen(
        [sys.executable, "-m", "perstack", *words],
        cwd=reviewed,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1]
        process.terminate()
    assert process.returncode == 0
    port = url.split(":")[2].removesuffix("/mcp")
    assert url.replace(port, "8000") == adding[-1]


def assert_lists_tools(arguments: list[str], folder: Path) -> None:
    """Start the server as written, but for the path that every reader has to fill in."""
    config = str(folder / "perstack.toml")
    words = [config if word == "/path/to/perstack.toml" else word for word in arguments]
    client = {"name": "test", "version": "1"}
    version = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": version},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list", "params": {}},
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "perstack", *words],
        cwd=folder.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for message in messages:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
    names = [tool["name"] for tool in answers[1]["result"]["tools"]]
    assert names[0] == "reviewer"


def test_the_python_example_runs_as_written(reviewed: Path) -> None:
    (example,) = of("python")
    done = subprocess.run(
        [sys.executable, "-c", example.text],
        cwd=reviewed,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert done.stdout == "completed Nothing to find.\n", done.stderr


def test_every_other_command_names_something_that_is_there() -> None:
    for command in shell_commands:
        words = [word for word in shlex.split(command) if "=" not in word]
        if words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), command
        elif words[0] == "docker":
            assert (ROOT / words[words.index("-f") + 1]).is_file(), command
        else:
            assert words[0] in ("perstack", "claude", "pip"), command


def test_every_link_leads_to_a_file_and_every_command_exists() -> None:
    text = README.read_text(encoding="utf-8")
    for target in (part.partition(")")[0] for part in text.split("](")[1:]):
        assert (ROOT / target).is_file(), target
    for name in ("run", "serve", "check", "log"):
        assert name in COMMANDS
