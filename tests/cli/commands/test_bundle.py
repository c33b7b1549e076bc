"""`perstack bundle`: experts as one file that desktop clients install."""

import io
import json
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from perstack.cli.main import main
from perstack.cli.terminal import Terminal

FILE = """
model = "gpt-5"

[provider]
providerName = "openai"

[experts.helper]
description = "Helps."
instruction = "Help."
delegates = ["@helper/hand"]

[experts."@helper/hand"]
instruction = "Lend a hand."

[experts.helper.skills.search]
type = "mcpStdioSkill"
command = "uvx"
packageName = "search"
requiredEnv = ["SEARCH_TOKEN"]
"""


def bundled(folder: Path, *arguments: str | Path, text: str = FILE) -> tuple[int, Path, str]:
    (folder / "perstack.toml").write_text(text, encoding="utf-8")
    (folder / ".env").write_text("OPENAI_API_KEY=sk-invented\n", encoding="utf-8")
    output = folder / "experts.mcpb"
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    words = ["--config", folder / "perstack.toml", "--output", output, *arguments]
    code = main(["bundle", *map(str, words)], terminal)
    assert isinstance(terminal.stderr, io.StringIO)
    return code, output, terminal.stderr.getvalue()


def manifest(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        parsed: dict[str, Any] = json.loads(archive.read("manifest.json"))
    return parsed


def test_a_bundle_holds_the_definition_and_no_secret(tmp_path: Path) -> None:
    code, path, _ = bundled(tmp_path)

    assert code == 0
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {
            "manifest.json",
            "perstack.toml",
            "pyproject.toml",
            "server/main.py",
        }
        assert archive.read("perstack.toml").decode() == FILE
        assert not [name for name in archive.namelist() if b"sk-invented" in archive.read(name)]


def test_the_client_asks_for_the_workspace_and_for_every_key(tmp_path: Path) -> None:
    _, path, _ = bundled(tmp_path)

    wanted = manifest(path)["user_config"]
    assert list(wanted) == ["workspace", "openai_api_key", "search_token"]
    assert wanted["openai_api_key"]["sensitive"] is True
    assert manifest(path)["server"]["mcp_config"]["env"] == {
        "OPENAI_API_KEY": "${user_config.openai_api_key}",
        "SEARCH_TOKEN": "${user_config.search_token}",
    }


def test_coordinators_are_shown_and_delegates_are_not(tmp_path: Path) -> None:
    _, path, _ = bundled(tmp_path)

    assert manifest(path)["tools"] == [{"name": "helper", "description": "Helps."}]


def test_the_same_definition_makes_the_same_bytes(tmp_path: Path) -> None:
    _, path, _ = bundled(tmp_path)
    first = path.read_bytes()
    bundled(tmp_path)

    assert path.read_bytes() == first


def test_a_wheel_that_comes_along_is_what_gets_installed(tmp_path: Path) -> None:
    wheel = tmp_path / "perstack-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    _, path, _ = bundled(tmp_path, "--wheel", wheel)

    with zipfile.ZipFile(path) as archive:
        project = tomllib.loads(archive.read("pyproject.toml").decode())
        assert archive.read(wheel.name) == b"wheel"
    assert project["tool"]["uv"]["sources"]["perstack"] == {"path": wheel.name}


def test_a_script_of_replies_travels_with_its_definition(tmp_path: Path) -> None:
    (tmp_path / "script.toml").write_text('[[experts.helper]]\ntext = "x"\n', encoding="utf-8")
    text = """
[provider]
providerName = "scripted"
[provider.setting]
script = "script.toml"
[experts.helper]
instruction = "Help."
"""
    code, path, _ = bundled(tmp_path, text=text)

    assert code == 0
    with zipfile.ZipFile(path) as archive:
        assert "script.toml" in archive.namelist()


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        ('[experts."@a/b"]\ninstruction = "x"\n', (), "no expert that could become a tool"),
        (FILE, ("--wheel", "missing.whl"), "missing.whl cannot be read"),
        (FILE, ("--name", "My Experts"), ""),
    ],
)
def test_what_cannot_be_packed_is_said(
    tmp_path: Path, text: str, arguments: tuple[str, ...], reason: str
) -> None:
    code, path, err = bundled(tmp_path, *arguments, text=text)

    assert code == 2
    assert reason in err
    assert not path.exists()


@pytest.mark.external
@pytest.mark.timeout(180)
def test_the_tool_of_the_format_accepts_the_manifest(tmp_path: Path) -> None:
    _, path, _ = bundled(tmp_path)
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(path).extractall(unpacked)

    done = subprocess.run(
        ["npx", "--yes", "@anthropic-ai/mcpb@2.1.2", "validate", str(unpacked / "manifest.json")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )

    assert (done.returncode, "passes" in done.stdout) == (0, True), done.stdout + done.stderr
