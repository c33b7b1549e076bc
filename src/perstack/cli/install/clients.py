"""The clients that are known, and how each writes down what to start or where to connect.

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
from urllib.parse import quote

from perstack.cli.install.launch import Launch, Remote
from perstack.cli.install.snippet import Json, Snippet, compact, pretty, quoted
from perstack.errors import ConfigError

Target = Launch | Remote
CALL_TIMEOUT_MS = 600_000


@dataclass(frozen=True, slots=True)
class Client:
    """A program that starts MCP servers or connects to them."""

    title: str
    write: Callable[[str, Target], Snippet]


def _stdio(launch: Launch, reference: str) -> Json:
    """The usual three keys; `reference` is how the client names a variable of its environment."""
    entry: Json = {"command": launch.command, "args": list(launch.args)}
    if launch.variables:
        entry["env"] = {name: reference.format(name) for name in launch.variables}
    return entry


def _headers(remote: Remote, reference: str) -> Json:
    if remote.token_variable is None:
        return {}
    return {"headers": {"Authorization": f"Bearer {reference.format(remote.token_variable)}"}}


def _claude_desktop(name: str, target: Target) -> Snippet:
    if isinstance(target, Remote):
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
        names = ", ".join(target.variables)
        place = "Put the values in place, or into a file .env beside perstack.toml without env here"
        notes += (f"{place}: {names}.",)
    return Snippet(
        text=pretty({"mcpServers": {name: _stdio(target, "<value of {}>")}}),
        file=f"{folder}/claude_desktop_config.json",
        notes=notes,
    )


def _claude_code(name: str, target: Target) -> Snippet:
    if isinstance(target, Remote):
        entry: Json = {"type": "http", "url": target.url, **_headers(target, "${{{}}}")}
        words = ["claude", "mcp", "add", "--transport", "http", name, target.url]
        command = shlex.join(words)
        if target.token_variable is not None:
            command += f' --header "Authorization: Bearer ${target.token_variable}"'
    else:
        entry = {"type": "stdio", **_stdio(target, "${{{}}}")}
        # A server that Claude Code starts inherits its environment.
        command = shlex.join(["claude", "mcp", "add", name, "--", target.command, *target.args])
    return Snippet(
        text=pretty({"mcpServers": {name: entry}}), file=".mcp.json of the project", command=command
    )


def _cursor(name: str, target: Target) -> Snippet:
    reference = "${{env:{}}}"
    entry: Json
    if isinstance(target, Remote):
        entry = {"url": target.url, **_headers(target, reference)}
    else:
        entry = _stdio(target, reference)
    packed = base64.b64encode(compact(entry).encode()).decode()
    return Snippet(
        text=pretty({"mcpServers": {name: entry}}),
        file="~/.cursor/mcp.json, or .cursor/mcp.json of the project",
        link="cursor://anysphere.cursor-deeplink/mcp/install"
        f"?name={quote(name, safe='')}&config={quote(packed, safe='')}",
    )


def _vscode(name: str, target: Target) -> Snippet:
    reference = "${{input:{}}}"
    entry: Json
    if isinstance(target, Remote):
        entry = {"type": "http", "url": target.url, **_headers(target, reference)}
        wanted = (target.token_variable,) if target.token_variable else ()
    else:
        entry = {"type": "stdio", **_stdio(target, reference)}
        wanted = target.variables
    document: Json = {"servers": {name: entry}}
    if wanted:
        document["inputs"] = [
            {"type": "promptString", "id": each, "description": each, "password": True}
            for each in wanted
        ]
    inputs = {"inputs": document["inputs"]} if wanted else {}
    packed = compact({"name": name, **entry, **inputs})
    return Snippet(
        text=pretty(document),
        file=".vscode/mcp.json of the folder",
        command=f"code --add-mcp {shlex.quote(packed)}",
        link=f"vscode:mcp/install?{quote(packed, safe='')}",
    )


def _codex(name: str, target: Target) -> Snippet:
    lines = [f"[mcp_servers.{_toml_key(name)}]"]
    if isinstance(target, Remote):
        lines.append(f"url = {quoted(target.url)}")
        if target.token_variable is not None:
            lines.append(f"bearer_token_env_var = {quoted(target.token_variable)}")
    else:
        lines.append(f"command = {quoted(target.command)}")
        lines.append(f"args = [{', '.join(map(quoted, target.args))}]")
        if target.variables:
            lines.append(f"env_vars = [{', '.join(map(quoted, target.variables))}]")
        lines.append("startup_timeout_sec = 20")
    lines.append(f"tool_timeout_sec = {CALL_TIMEOUT_MS // 1000}")
    return Snippet(text="\n".join(lines), file="~/.codex/config.toml")


def _gemini(name: str, target: Target) -> Snippet:
    reference = "${}"
    entry: Json
    if isinstance(target, Remote):
        entry = {"httpUrl": target.url, **_headers(target, reference)}
    else:
        entry = _stdio(target, reference)
    entry["timeout"] = CALL_TIMEOUT_MS
    return Snippet(text=pretty({"mcpServers": {name: entry}}), file="~/.gemini/settings.json")


def _opencode(name: str, target: Target) -> Snippet:
    reference = "{{env:{}}}"
    entry: Json
    if isinstance(target, Remote):
        entry = {"type": "remote", "url": target.url, **_headers(target, reference)}
    else:
        entry = {"type": "local", "command": [target.command, *target.args]}
        if target.variables:
            entry["environment"] = {each: reference.format(each) for each in target.variables}
    entry |= {"enabled": True, "timeout": CALL_TIMEOUT_MS}
    return Snippet(
        text=pretty({"mcp": {name: entry}}),
        file="opencode.json of the project, or ~/.config/opencode/opencode.json",
    )


def _goose(name: str, target: Target) -> Snippet:
    entry: Json = {"name": name, "enabled": True, "timeout": CALL_TIMEOUT_MS // 1000}
    if isinstance(target, Remote):
        entry |= {"type": "streamable_http", "uri": target.url, **_headers(target, "${{{}}}")}
    else:
        entry |= {"type": "stdio", "cmd": target.command, "args": list(target.args)}
        if target.variables:
            entry["env_keys"] = list(target.variables)
    # YAML takes JSON for a value, which spares a library for one line.
    return Snippet(
        text=f"extensions:\n  {quoted(name)}: {json.dumps(entry, ensure_ascii=False)}",
        file="~/.config/goose/config.yaml",
    )


def _json(name: str, target: Target) -> Snippet:
    if isinstance(target, Remote):
        entry: Json = {"type": "http", "url": target.url, **_headers(target, "<value of {}>")}
    else:
        entry = _stdio(target, "<value of {}>")
    return Snippet(
        text=pretty({"mcpServers": {name: entry}}), file="the configuration of any other client"
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
    "json": Client("any other client", _json),
}
"""The clients by the names that the command takes."""


def _toml_key(name: str) -> str:
    is_bare = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    return name if is_bare else quoted(name)
