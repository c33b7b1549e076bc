"""Clients of MCP from the package index, each ready to ask one question of perstack."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from _stage import plain_environment, say

CACHE = Path(os.environ.get("PERSTACK_PROOF_CACHE", "/tmp/perstack-proofs"))  # noqa: S108 - only a fallback
QUESTION = "add 19 and 23"
ALLOWED = "mcp__perstack__adder,mcp__perstack__perstack_job"


@dataclass(frozen=True)
class Place:
    """Where one client works.

    Attributes:
        home: Its home folder.
        model_url: The model that it asks.
        server: How it starts perstack.
        server_environment: With what.
        limit_seconds: How long it lets a call take.
    """

    home: Path
    model_url: str
    server: list[str]
    server_environment: dict[str, str]
    limit_seconds: int


@dataclass(frozen=True)
class Program:
    """A client that is installed from the package index."""

    name: str
    package: str
    command: Callable[[Path], list[str]]
    prepare: Callable[[Place], dict[str, str]]


def write(path: Path, text: str) -> None:
    """Write a file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def prepare_codex(place: Place) -> dict[str, str]:
    """Codex reads TOML and asks a Responses endpoint.

    It asks its model at once, with the tools of those servers that are ready by then, unless they
    are required.
    """
    settings = place.server_environment
    variables = ", ".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    write(
        place.home / ".codex" / "config.toml",
        f"""
model = "fake-model"
model_provider = "fake"
approval_policy = "never"
sandbox_mode = "read-only"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.fake]
name = "fake"
base_url = "{place.model_url}/v1"
wire_api = "responses"
env_key = "FAKE_KEY"
[mcp_servers.perstack]
command = {json.dumps(place.server[0])}
args = {json.dumps(place.server[1:])}
env = {{ {variables} }}
default_tools_approval_mode = "approve"
required = true
startup_timeout_sec = 60
tool_timeout_sec = {place.limit_seconds}
""",
    )
    return {"FAKE_KEY": "x"}


def prepare_claude(place: Place) -> dict[str, str]:
    """Claude Code asks a Messages endpoint."""
    write(place.home / "work" / "mcp.json", json.dumps(desktop_configuration(place)))
    return {
        "ANTHROPIC_BASE_URL": place.model_url,
        "ANTHROPIC_API_KEY": "sk-fake",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ENABLE_TOOL_SEARCH": "false",
        "MCP_TOOL_TIMEOUT": str(place.limit_seconds * 1000),
    }


def prepare_gemini(place: Place) -> dict[str, str]:
    """Gemini CLI asks a generateContent endpoint."""
    limit = place.limit_seconds * 1000
    configuration = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False},
        "mcpServers": {"perstack": {**server_entry(place), "timeout": limit, "trust": True}},
    }
    write(place.home / ".gemini" / "settings.json", json.dumps(configuration))
    return {
        "GEMINI_API_KEY": "fake",
        "GOOGLE_GEMINI_BASE_URL": place.model_url,
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }


def prepare_opencode(place: Place) -> dict[str, str]:
    """The client opencode asks a Chat Completions endpoint."""
    options = {"baseURL": f"{place.model_url}/v1", "apiKey": "x"}
    model = {"name": "fake-model", "tool_call": True, "limit": {"context": 128_000, "output": 4096}}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "fake", "options": options}
    configuration = {
        "autoupdate": False,
        "share": "disabled",
        "model": "fake/fake-model",
        "small_model": "fake/fake-model",
        "provider": {"fake": {**provider, "models": {"fake-model": model}}},
        "mcp": {
            "perstack": {
                "type": "local",
                "enabled": True,
                "command": place.server,
                "environment": place.server_environment,
                "timeout": place.limit_seconds * 1000,
            }
        },
    }
    write(place.home / "work" / "opencode.json", json.dumps(configuration))
    return {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}


def server_entry(place: Place) -> dict[str, object]:
    """How most clients say what to start."""
    return {
        "command": place.server[0],
        "args": place.server[1:],
        "env": place.server_environment,
    }


def desktop_configuration(place: Place) -> dict[str, object]:
    """The file that Claude and Cursor read."""
    return {"mcpServers": {"perstack": server_entry(place)}}


PROGRAMS = (
    Program(
        "codex",
        "@openai/codex@0.169.0",
        lambda bin_: [str(bin_ / "codex"), "exec", "--skip-git-repo-check", "--json", QUESTION],
        prepare_codex,
    ),
    Program(
        "claude",
        "@anthropic-ai/claude-code@2.1.329",
        lambda bin_: [
            *(str(bin_ / "claude"), "-p", QUESTION, "--mcp-config", "mcp.json"),
            *("--strict-mcp-config", "--allowedTools", ALLOWED),
            *("--output-format", "stream-json", "--verbose", "--model", "claude-sonnet-4-5"),
        ],
        prepare_claude,
    ),
    Program(
        "gemini",
        "@google/gemini-cli@0.61.0",
        lambda bin_: [
            *(str(bin_ / "gemini"), "-p", QUESTION, "-m", "gemini-2.5-flash"),
            *("--approval-mode", "yolo", "--output-format", "json"),
        ],
        prepare_gemini,
    ),
    Program(
        "opencode",
        "opencode-ai@1.18.33",
        lambda bin_: [str(bin_ / "opencode"), "run", "--format", "json", QUESTION],
        prepare_opencode,
    ),
)


def installed(program: Program) -> Path:
    """The folder of the program's command, installed once into the cache."""
    folder = CACHE / "clients" / program.name
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != program.package:
        say(f"{program.name}: installing {program.package}")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
        subprocess.run([*command, program.package], check=True, capture_output=True)
        stamp.write_text(program.package, encoding="utf-8")
    return folder / "node_modules" / ".bin"


def ask_program(program: Program, place: Place) -> str:
    """Everything the program printed."""
    bin_ = installed(program)
    extra = program.prepare(place)
    work = place.home / "work"
    work.mkdir(parents=True, exist_ok=True)
    environment = plain_environment(**extra)
    environment["HOME"] = str(place.home)
    done = subprocess.run(
        program.command(bin_),
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=180,
        check=False,
    )
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
