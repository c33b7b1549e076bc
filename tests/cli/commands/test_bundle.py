"""`perstack bundle`: experts as one file that desktop clients install."""

import io
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

from perstack import __version__
from perstack.cli.main import main
from perstack.cli.terminal import Terminal

OWN_WHEEL = f"perstack-{__version__}-py3-none-any.whl"
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
            "experts/perstack.toml",
            "manifest.json",
            OWN_WHEEL,
            "pyproject.toml",
            "server/main.py",
        }
        assert archive.read("experts/perstack.toml").decode() == FILE
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


def test_this_program_comes_along_as_a_wheel_that_can_be_installed(tmp_path: Path) -> None:
    _, path, _ = bundled(tmp_path)

    with zipfile.ZipFile(path) as archive:
        project = tomllib.loads(archive.read("pyproject.toml").decode())
        wheel = zipfile.ZipFile(io.BytesIO(archive.read(OWN_WHEEL)))
    assert project["tool"]["uv"]["sources"]["perstack"] == {"path": OWN_WHEEL}
    installed = tmp_path / "installed"
    wheel.extractall(installed)
    [info] = installed.glob("*.dist-info")
    metadata = Distribution.at(info)
    assert (metadata.name, metadata.version) == ("perstack", __version__)
    assert "perstack" in {each.name for each in metadata.entry_points}
    listed = {str(each) for each in metadata.files or ()}
    assert listed == set(wheel.namelist())
    done = subprocess.run(
        [sys.executable, "-P", "-m", "perstack", "--version"],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=installed,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.startswith(f"perstack {__version__} ")


def test_another_wheel_takes_the_place_of_this_program(tmp_path: Path) -> None:
    wheel = tmp_path / "perstack-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as content:
        content.writestr("perstack/__init__.py", "")
    _, path, _ = bundled(tmp_path, "--wheel", wheel)

    with zipfile.ZipFile(path) as archive:
        project = tomllib.loads(archive.read("pyproject.toml").decode())
        assert archive.read(wheel.name) == wheel.read_bytes()
        assert OWN_WHEEL not in archive.namelist()
    assert project["tool"]["uv"]["sources"]["perstack"] == {"path": wheel.name}


def with_skill(command: str, *args: str, icon: str = "") -> str:
    return f"""
[experts.helper]
instruction = "Help."
[experts.helper.tool]
{f'icon = "{icon}"' if icon else ""}
[experts.helper.skills.search]
type = "mcpStdioSkill"
command = "{command}"
args = {json.dumps(args)}
"""


def test_files_of_skills_and_icons_come_along(tmp_path: Path) -> None:
    for name in ("run.sh", "tools/search.py", "server/main.py", "options.json", "icon.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("<svg/>", encoding="utf-8")
    (tmp_path / "run.sh").chmod(0o755)
    args = ("tools/search.py", "./server/main.py", "--options=options.json", "-v", ".", "/bin/sh")

    code, path, err = bundled(tmp_path, text=with_skill("./run.sh", *args, icon="icon.svg"))

    assert code == 0
    assert "With it come run.sh, tools/search.py" in err
    with zipfile.ZipFile(path) as archive:
        inside = {name for name in archive.namelist() if name.startswith("experts/")}
        modes = {each.filename: each.external_attr >> 16 for each in archive.infolist()}
        assert b"perstack.cli.main" in archive.read("server/main.py")
    assert inside == {
        f"experts/{name}"
        for name in (
            *("perstack.toml", "run.sh", "tools/search.py", "server/main.py"),
            *("options.json", "icon.svg"),
        )
    }
    assert modes["experts/run.sh"] & 0o111
    assert not modes["experts/options.json"] & 0o111


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("../other.py", "'../other.py' lies outside of"),
        ("./missing.py", "'./missing.py' is not there"),
        ("folder", "'folder' is a folder"),
        ("--directory=folder", "'folder' is a folder"),
        (".env", "'.env' may hold keys"),
        ("link.py", "'link.py' lies outside of"),
        ("{here}/perstack.toml", "is a path of this machine"),
    ],
)
def test_files_that_cannot_come_along_are_named(tmp_path: Path, word: str, reason: str) -> None:
    here = tmp_path / "here"
    (here / "folder").mkdir(parents=True)
    (tmp_path / "other.py").write_text("", encoding="utf-8")
    (here / "link.py").symlink_to(tmp_path / "other.py")
    text = with_skill("python3", word.format(here=here), "../other.py")

    code, path, err = bundled(here, text=text)

    assert code == 2
    assert "names what cannot go into a bundle" in err
    assert reason in err
    assert "'../other.py' lies outside of" in err
    assert 'experts."helper".skills."search".args' in err
    assert not path.exists()


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
        assert "experts/script.toml" in archive.namelist()


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        ('[experts."@a/b"]\ninstruction = "x"\n', (), "no expert that could become a tool"),
        (FILE, ("--wheel", "missing.whl"), "missing.whl cannot be read"),
        (FILE, ("--wheel", __file__), "is no wheel of perstack"),
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
