"""The supported clients, and how each writes down what to start or where to connect.

Each forwards variables in its own way. A value is never written: a configuration file is copied,
shared and committed more easily than a key should be.
"""

import base64
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from perstack.errors import ConfigError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """The configuration of one client.

    Attributes:
        text: The content of the file, complete.
        file: The file; a leading `~` is the home folder.
        command: A command of the client that does the same, if it has one.
        link: A link that installs it, if the client knows such links.
        notes: What a person should know besides.
    """

    text: str
    file: str
    command: str | None = None
    link: str | None = None
    notes: tuple[str, ...] = ()


def to_pretty_json(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def to_compact_json(document: Json) -> str:
    """A document for links and arguments."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def to_json_string(text: str) -> str:
    """A string in quotes, as JSON, TOML and YAML all read it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """What a client starts.

    Attributes:
        command: The program, by its full path: a desktop client has another PATH than a shell.
        args: Its arguments.
        variables: Names that the experts need and that no `.env` file provides, without values.
        search_path: The `PATH` for clients that are not started from a shell, if theirs lacks
            commands of skills.
        problems: Why skills would not start on this machine, for the user.
    """

    command: str
    args: tuple[str, ...]
    variables: tuple[str, ...] = ()
    search_path: str | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteServer:
    """A server that runs already.

    Attributes:
        url: Its endpoint.
        token_variable: The variable that holds the bearer token, if it wants one.
    """

    url: str
    token_variable: str | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.token_variable,) if self.token_variable else ()


ServerTarget = LocalServer | RemoteServer
CALL_TIMEOUT_MS = 600_000


@dataclass(frozen=True, slots=True)
class Client:
    """A program that starts MCP servers or connects to them."""

    title: str
    to_snippet: Callable[[str, ServerTarget], Snippet]


def _entry(
    target: ServerTarget,
    reference_format: str,
    *,
    url_key: str = "url",
    remote_type: str | None = None,
    local_type: str | None = None,
    has_shell: bool = False,
) -> Json:
    """The usual keys of a server; `reference_format` is the client's syntax for a variable.

    A client that is started from a shell has that one's `PATH`.
    """
    if isinstance(target, RemoteServer):
        type_key = {"type": remote_type} if remote_type else {}
        return {**type_key, url_key: target.url, **_auth_headers(target, reference_format)}
    entry: Json = {"type": local_type} if local_type else {}
    entry |= {"command": target.command, "args": list(target.args)}
    environment = {} if has_shell or target.search_path is None else {"PATH": target.search_path}
    environment |= _references(target.variables, reference_format)
    if environment:
        entry["env"] = environment
    return entry


def _auth_headers(remote: RemoteServer, reference_format: str) -> Json:
    if remote.token_variable is None:
        return {}
    return {
        "headers": {"Authorization": f"Bearer {reference_format.format(remote.token_variable)}"}
    }


def _references(variables: tuple[str, ...], reference_format: str) -> Json:
    return {name: reference_format.format(name) for name in variables}


def _mcp_servers_text(name: str, entry: Json) -> str:
    return to_pretty_json({"mcpServers": {name: entry}})


def _claude_desktop(name: str, target: ServerTarget) -> Snippet:
    if isinstance(target, RemoteServer):
        raise ConfigError(
            "Claude Desktop takes the URL of a server in its settings, not in its file.",
            hint=f"Add {target.url} under Settings > Connectors.",
        )
    if sys.platform == "darwin":
        folder = "~/Library/Application Support/Claude"
    elif os.name == "nt":
        folder = "%APPDATA%\\Claude"
    else:
        folder = "~/.config/Claude"
    notes = ("Quit and start Claude Desktop afterwards.",)
    if target.variables:
        advice = (
            "Put the values in place, or into a file .env beside perstack.toml without env here"
        )
        notes += (f"{advice}: {', '.join(target.variables)}.",)
    return Snippet(
        text=_mcp_servers_text(name, _entry(target, "<value of {}>")),
        file=f"{folder}/claude_desktop_config.json",
        notes=notes,
    )


def _claude_code(name: str, target: ServerTarget) -> Snippet:
    entry = _entry(target, "${{{}}}", remote_type="http", local_type="stdio", has_shell=True)
    if isinstance(target, RemoteServer):
        words = ["claude", "mcp", "add", "--transport", "http", name, target.url]
        command = shlex.join(words)
        if target.token_variable is not None:
            command += f' --header "Authorization: Bearer ${target.token_variable}"'
    else:
        # A server that Claude Code starts inherits its environment.
        command = shlex.join(["claude", "mcp", "add", name, "--", target.command, *target.args])
    return Snippet(
        text=_mcp_servers_text(name, entry),
        file=".mcp.json of the project",
        command=command,
    )


def _cursor(name: str, target: ServerTarget) -> Snippet:
    entry = _entry(target, "${{env:{}}}")
    encoded = base64.b64encode(to_compact_json(entry).encode()).decode()
    return Snippet(
        text=_mcp_servers_text(name, entry),
        file="~/.cursor/mcp.json, or .cursor/mcp.json of the project",
        link="cursor://anysphere.cursor-deeplink/mcp/install"
        f"?name={quote(name, safe='')}&config={quote(encoded, safe='')}",
    )


def _vscode(name: str, target: ServerTarget) -> Snippet:
    entry = _entry(target, "${{input:{}}}", remote_type="http", local_type="stdio")
    inputs = [
        {"type": "promptString", "id": each, "description": each, "password": True}
        for each in target.variables
    ]
    secrets = {"inputs": inputs} if inputs else {}
    compact_config = to_compact_json({"name": name, **entry, **secrets})
    return Snippet(
        text=to_pretty_json({"servers": {name: entry}, **secrets}),
        file=".vscode/mcp.json of the folder",
        command=f"code --add-mcp {shlex.quote(compact_config)}",
        link=f"vscode:mcp/install?{quote(compact_config, safe='')}",
    )


def _codex(name: str, target: ServerTarget) -> Snippet:
    lines = [f"[mcp_servers.{_toml_key(name)}]"]
    if isinstance(target, RemoteServer):
        lines.append(f"url = {to_json_string(target.url)}")
        if target.token_variable is not None:
            lines.append(f"bearer_token_env_var = {to_json_string(target.token_variable)}")
    else:
        lines.append(f"command = {to_json_string(target.command)}")
        lines.append(f"args = [{', '.join(map(to_json_string, target.args))}]")
        if target.variables:
            lines.append(f"env_vars = [{', '.join(map(to_json_string, target.variables))}]")
        lines.append("startup_timeout_sec = 20")
    lines.append(f"tool_timeout_sec = {CALL_TIMEOUT_MS // 1000}")
    return Snippet(text="\n".join(lines), file="~/.codex/config.toml")


def _gemini(name: str, target: ServerTarget) -> Snippet:
    entry = _entry(target, "${}", url_key="httpUrl", has_shell=True)
    entry["timeout"] = CALL_TIMEOUT_MS
    return Snippet(text=_mcp_servers_text(name, entry), file="~/.gemini/settings.json")


def _opencode(name: str, target: ServerTarget) -> Snippet:
    reference = "{{env:{}}}"
    entry: Json
    if isinstance(target, RemoteServer):
        entry = _entry(target, reference, remote_type="remote")
    else:
        entry = {"type": "local", "command": [target.command, *target.args]}
        if target.variables:
            entry["environment"] = _references(target.variables, reference)
    entry |= {"enabled": True, "timeout": CALL_TIMEOUT_MS}
    return Snippet(
        text=to_pretty_json({"mcp": {name: entry}}),
        file="opencode.json of the project, or ~/.config/opencode/opencode.json",
    )


def _goose(name: str, target: ServerTarget) -> Snippet:
    entry: Json = {"name": name, "enabled": True, "timeout": CALL_TIMEOUT_MS // 1000}
    if isinstance(target, RemoteServer):
        entry |= {"type": "streamable_http", "uri": target.url, **_auth_headers(target, "${{{}}}")}
    else:
        entry |= {"type": "stdio", "cmd": target.command, "args": list(target.args)}
        if target.variables:
            entry["env_keys"] = list(target.variables)
        if target.search_path is not None:
            entry["envs"] = {"PATH": target.search_path}
    # YAML takes JSON for a value, which spares a library for one line.
    return Snippet(
        text=f"extensions:\n  {to_json_string(name)}: {json.dumps(entry, ensure_ascii=False)}",
        file="~/.config/goose/config.yaml",
    )


def _generic_json(name: str, target: ServerTarget) -> Snippet:
    entry = _entry(target, "<value of {}>", remote_type="http")
    return Snippet(
        text=_mcp_servers_text(name, entry), file="the configuration of any other client"
    )


CLIENTS: dict[str, Client] = {
    "claude-desktop": Client("Claude Desktop", _claude_desktop),
    "claude-code": Client("Claude Code", _claude_code),
    "cursor": Client("Cursor", _cursor),
    "vscode": Client("VS Code", _vscode),
    "codex": Client("Codex", _codex),
    "gemini": Client("Gemini CLI", _gemini),
    "opencode": Client("opencode", _opencode),
    "goose": Client("Goose", _goose),
    "json": Client("any other client", _generic_json),
}
"""The clients by the names that the command takes."""


def _toml_key(name: str) -> str:
    is_bare = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    return name if is_bare else to_json_string(name)
