"""Foreign clients, each against a fake model, list an expert, call it and get its answer."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
from _stage import conclude, plain_environment, say, workplace
from mcp import Client, StdioServerParameters

from tests.model_server import CallTool, ModelServer, Reply, Request, ToolCall

CACHE = Path(os.environ.get("PERSTACK_PROOF_CACHE", "/tmp/perstack-proofs"))  # noqa: S108 - only a fallback
QUESTION = "add 19 and 23"
ANSWER = "the sum is 42"
EXPERT_GENERATIONS = 2
TOML = """
model = "gpt-5"

[provider]
providerName = "openai"

[experts."adder"]
description = "Adds numbers. Give it the numbers."
instruction = "Add the numbers that you are given."
"""


def expert_script(request: Request) -> Reply:
    """The expert really works it out, then answers."""
    if request.tool_results:
        return Reply(tool_calls=(ToolCall("attemptCompletion", {"result": ANSWER}, "done"),))
    sum_up = {
        "command": "expr",
        "args": ["19", "+", "23"],
        "cwd": ".",
        "stdout": True,
        "stderr": True,
    }
    return Reply(tool_calls=(ToolCall("exec", {**sum_up, "env": {}}, "sum"),))


@dataclass(frozen=True)
class Place:
    """Where one client works: its home, the model it asks and how it starts perstack."""

    home: Path
    model_url: str
    server: list[str]
    server_environment: dict[str, str]


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
    """Codex reads TOML and asks a Responses endpoint."""
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
    }


def prepare_gemini(place: Place) -> dict[str, str]:
    """Gemini CLI asks a generateContent endpoint."""
    configuration = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False},
        "mcpServers": {"perstack": {**server_entry(place), "timeout": 600_000, "trust": True}},
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
                "timeout": 600_000,
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
            *("--strict-mcp-config", "--allowedTools", "mcp__perstack__adder"),
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


def ask_sdk(place: Place) -> str:
    """The SDK's own client, over stdio."""

    async def ask() -> str:
        server = StdioServerParameters(
            command=place.server[0], args=place.server[1:], env=place.server_environment
        )
        async with Client(server) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("adder", {"query": QUESTION})
        return f"{names} {result.structured_content} FAKE-DONE"

    return anyio.run(ask)


def seen_by(name: str, ask: Callable[[Place], str]) -> bool:
    """Put one client to the test."""
    with (
        workplace() as home,
        ModelServer(CallTool("adder$", {"query": QUESTION}, 1)) as client_model,
        ModelServer(expert_script) as expert_model,
    ):
        (home / "perstack.toml").write_text(TOML, encoding="utf-8")
        place = Place(
            home=home,
            model_url=client_model.base_url,
            server=[
                sys.executable,
                "-m",
                "perstack",
                "serve",
                "--config",
                str(home / "perstack.toml"),
            ],
            server_environment={
                "OPENAI_API_KEY": "sk-proof",
                "OPENAI_BASE_URL": f"{expert_model.base_url}/v1",
            },
        )
        output = ask(place)
        generations = len(expert_model.requests)
    got_answer = ANSWER in output and "FAKE-DONE" in output
    holds = got_answer and generations == EXPERT_GENERATIONS
    verdict = "listed, called and answered" if holds else f"FAILED\n{output[-2000:]}"
    say(f"{name}: {verdict}, {generations} generations of the expert")
    return holds


def main() -> None:
    """Ask with each client that was named, or with all of them."""
    wanted = sys.argv[1:] or ["sdk", *(program.name for program in PROGRAMS)]
    if shutil.which("npm") is None and wanted != ["sdk"]:
        conclude("clients", holds=False, seen="npm is needed to install the clients")
    held: list[str] = []
    if "sdk" in wanted and seen_by("sdk", ask_sdk):
        held.append("sdk")
    for program in PROGRAMS:
        if program.name in wanted:
            asking = program

            def ask(place: Place, asking: Program = asking) -> str:
                return ask_program(asking, place)

            if seen_by(program.name, ask):
                held.append(program.name)
    conclude(
        "clients",
        holds=len(held) == len(wanted),
        seen=f"{len(held)} of {len(wanted)} clients got the expert's answer ({', '.join(held)})",
    )


if __name__ == "__main__":
    main()
