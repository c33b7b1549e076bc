"""`perstack mcp-config`: what each client wants, right on this machine and free of secrets."""

import base64
import io
import json
import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
import pytest
from mcp import Client, StdioServerParameters

from perstack.cli.commands.mcp_config import DESKTOP_PATH, needed_search_path, own_command
from perstack.cli.main import main
from perstack.cli.mcp_clients import CLIENTS
from perstack.cli.terminal import Terminal

FILE = """
model = "gpt-5"

[provider]
providerName = "openai"

[experts.helper]
instruction = "Help."

[experts.helper.skills.search]
type = "mcpStdioSkill"
command = "uvx"
packageName = "search"
requiredEnv = ["SEARCH_TOKEN", "SEARCH_URL"]
"""
SECRET = "sk-invented"
URL = "https://experts.example.com/mcp"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "perstack.toml"
    path.write_text(FILE, encoding="utf-8")
    (tmp_path / ".env").write_text(f"SEARCH_TOKEN={SECRET}\n", encoding="utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return path


def printed(*arguments: str | Path) -> tuple[int, str, str]:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    code = main(["mcp-config", *map(str, arguments)], terminal)
    assert isinstance(terminal.stdout, io.StringIO)
    assert isinstance(terminal.stderr, io.StringIO)
    return code, terminal.stdout.getvalue(), terminal.stderr.getvalue()


def document(*arguments: str | Path) -> dict[str, Any]:
    code, out, _ = printed(*arguments)
    assert code == 0
    parsed: dict[str, Any] = json.loads(out)
    return parsed


def test_without_a_client_all_are_listed() -> None:
    code, out, _ = printed()

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(CLIENTS)


@pytest.mark.parametrize("client", CLIENTS)
def test_no_client_is_told_a_secret_and_each_is_told_the_definition(
    client: str, config: Path
) -> None:
    code, out, err = printed(client, "--config", config)

    assert code == 0
    assert SECRET not in out + err
    assert str(config) in out
    assert err.startswith("Goes into ")


@pytest.mark.parametrize("client", CLIENTS)
def test_only_variables_that_no_file_provides_are_asked_for(client: str, config: Path) -> None:
    _, out, _ = printed(client, "--config", config)

    assert "OPENAI_API_KEY" in out
    assert "SEARCH_URL" in out
    assert "SEARCH_TOKEN" not in out


def test_variables_are_named_as_each_client_resolves_them(config: Path) -> None:
    def variable(client: str) -> str:
        entry = next(iter(document(client, "--config", config)["mcpServers"].values()))
        value: str = entry["env"]["OPENAI_API_KEY"]
        return value

    assert variable("claude-code") == "${OPENAI_API_KEY}"
    assert variable("cursor") == "${env:OPENAI_API_KEY}"
    assert variable("gemini") == "$OPENAI_API_KEY"
    opencode = document("opencode", "--config", config)["mcp"]["perstack"]
    assert opencode["environment"]["OPENAI_API_KEY"] == "{env:OPENAI_API_KEY}"
    vscode = document("vscode", "--config", config)
    assert vscode["servers"]["perstack"]["env"]["OPENAI_API_KEY"] == "${input:OPENAI_API_KEY}"
    assert [each["id"] for each in vscode["inputs"]] == ["OPENAI_API_KEY", "SEARCH_URL"]
    codex = tomllib.loads(printed("codex", "--config", config)[1])["mcp_servers"]["perstack"]
    assert codex["env_vars"] == ["OPENAI_API_KEY", "SEARCH_URL"]


def test_a_name_that_is_no_bare_key_stays_one_key_of_the_table(config: Path) -> None:
    _, out, _ = printed("codex", "--config", config, "--name", 'my "experts".x')

    assert list(tomllib.loads(out)["mcp_servers"]) == ['my "experts".x']


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (("--serve=--publish all",), ["--publish", "all"]),
        (("--serve", "--publish all"), ["--publish", "all"]),
        (("--serve", "--publish", "--serve", "all"), ["--publish", "all"]),
        (("--serve", "--publish=all", "--name", "perstack"), ["--publish=all"]),
        (("--serve", "--sse"), ["--sse"]),
        (("--serve", "-v", "--serve=--workspace '/a b'"), ["-v", "--workspace", "/a b"]),
    ],
)
def test_options_for_the_server_are_passed_on(
    config: Path, words: tuple[str, ...], passed: list[str]
) -> None:
    entry = document("json", "--config", config, *words)

    path = str(config.resolve())
    assert entry["mcpServers"]["perstack"]["args"][-len(passed) - 1 :] == [path, *passed]


def test_an_option_for_the_server_without_a_value_is_an_error(config: Path) -> None:
    code, out, _ = printed("json", "--config", config, "--serve")

    assert (code, out) == (2, "")


def test_links_hold_the_same_as_the_files(config: Path) -> None:
    _, cursor, _ = printed("cursor", "--config", config, "--link")
    packed = parse_qs(urlsplit(cursor.strip()).query)
    assert packed["name"] == ["perstack"]
    in_link = json.loads(base64.b64decode(packed["config"][0]))
    assert in_link == document("cursor", "--config", config)["mcpServers"]["perstack"]

    _, vscode, _ = printed("vscode", "--config", config, "--link")
    unpacked = json.loads(unquote(vscode.strip().removeprefix("vscode:mcp/install?")))
    whole = document("vscode", "--config", config)
    assert unpacked == {
        "name": "perstack",
        **whole["servers"]["perstack"],
        "inputs": whole["inputs"],
    }


def test_a_client_without_links_says_where_its_file_is(config: Path) -> None:
    code, out, err = printed("codex", "--config", config, "--link")

    assert (code, out) == (2, "")
    assert "~/.codex/config.toml" in err


def test_a_running_server_needs_no_definition_and_its_token_stays_a_name() -> None:
    entry = document("claude-code", "--url", URL, "--token-env", "EXPERTS_TOKEN")

    assert entry["mcpServers"]["perstack"] == {
        "type": "http",
        "url": URL,
        "headers": {"Authorization": "Bearer ${EXPERTS_TOKEN}"},
    }
    codex = tomllib.loads(printed("codex", "--url", URL, "--token-env", "EXPERTS_TOKEN")[1])
    assert codex["mcp_servers"]["perstack"]["bearer_token_env_var"] == "EXPERTS_TOKEN"
    assert document("gemini", "--url", URL)["mcpServers"]["perstack"]["httpUrl"] == URL
    assert document("opencode", "--url", URL)["mcp"]["perstack"]["type"] == "remote"
    code, _, err = printed("claude-desktop", "--url", URL)
    assert code == 2
    assert "Connectors" in err


def test_what_cannot_be_a_server_is_refused() -> None:
    assert printed("cursor", "--url", "example.com")[0] == 2
    assert printed("cursor", "--token-env", "X")[0] == 2


def test_a_registry_entry_belongs_to_a_namespace_that_was_given() -> None:
    entry = document("registry", "--namespace", "io.github.someone")

    assert entry["name"] == "io.github.someone/perstack"
    assert entry["packages"][0]["registryType"] == "pypi"
    assert entry["packages"][0]["transport"] == {"type": "stdio"}
    remote = document("registry", "--namespace", "io.github.someone", "--url", URL)
    assert remote["remotes"] == [{"type": "streamable-http", "url": URL}]
    assert printed("registry")[0] == 2


def test_the_own_command_is_the_script_beside_the_interpreter(tmp_path: Path) -> None:
    python = tmp_path / "python"
    assert own_command(str(python), None) == [str(python), "-m", "perstack"]
    script = tmp_path / ("perstack.exe" if os.name == "nt" else "perstack")
    script.touch()
    assert own_command(str(python), None) == [str(script)]


def test_an_environment_that_uvx_may_remove_is_not_pointed_at() -> None:
    assert own_command("/home/x/.cache/uv/archive-v0/abc/bin/python", "/bin/uvx") == [
        "/bin/uvx",
        "perstack",
    ]


@pytest.mark.slow
def test_what_is_printed_starts_a_server(tmp_path: Path) -> None:
    config = tmp_path / "perstack.toml"
    config.write_text('[experts.helper]\ninstruction = "Help."\n', encoding="utf-8")
    entry = document("json", "--config", config)["mcpServers"]["perstack"]
    command = [entry["command"], *entry["args"]]
    assert shlex.join(command).startswith(str(Path(sys.executable).parent))

    async def names() -> list[str]:
        server = StdioServerParameters(command=command[0], args=command[1:], cwd="/")
        async with Client(server) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    assert anyio.run(names)[0] == "helper"


DESKTOP_CLIENTS = ("claude-desktop", "cursor", "vscode", "goose", "json")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with programs that is on the `PATH`, as those of version managers are."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("uvx", "uv"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


@pytest.mark.parametrize("client", DESKTOP_CLIENTS)
def test_a_desktop_client_is_told_where_the_commands_of_skills_are(
    client: str, config: Path, programs: Path
) -> None:
    code, out, told = printed(client, "--config", config)

    assert code == 0
    assert f'"PATH": "{programs}{os.pathsep}/usr/local/bin' in out
    assert "warning" not in told


@pytest.mark.parametrize("client", sorted(CLIENTS.keys() - set(DESKTOP_CLIENTS)))
@pytest.mark.usefixtures("programs")
def test_a_client_of_the_shell_has_the_path_of_the_shell(client: str, config: Path) -> None:
    assert "PATH" not in printed(client, "--config", config)[1]


def test_no_path_is_written_where_every_client_finds_the_commands(
    config: Path, programs: Path
) -> None:
    config.write_text(FILE.replace('"uvx"', '"sh"'), encoding="utf-8")

    assert "PATH" not in printed("claude-desktop", "--config", config)[1]
    assert programs.is_dir()


def test_folders_are_named_once_and_node_goes_with_npx(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, names in ((one, ("npx", "uvx")), (two, ("node",))):
        folder.mkdir()
        for name in names:
            (folder / name).touch(mode=0o755)

    found = needed_search_path(
        ("npx", "uvx", "npx", "./server.sh", "absent"), f"{one}{os.pathsep}{two}"
    )

    assert found == os.pathsep.join((str(one), str(two), DESKTOP_PATH))


def test_a_command_that_is_not_found_at_all_is_a_warning(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    code, out, told = printed("claude-desktop", "--config", config)

    assert code == 0
    assert "PATH" not in out
    assert "the command 'uvx' was not found (Install uv" in told
