"""Client libraries play a session over stdio and HTTP; the Inspector reads the tools strictly."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _foreign import node, node_modules, python_with
from _http import HttpServer
from _stage import PERSTACK, ROOT, conclude, plain_environment, say, workplace

SESSION = ROOT / "scripts" / "proofs" / "sdk_clients"
EXPERTS = ("perstack.toml", "script.toml")
OPTIONS = ("--task-after", "0.5")
PLAY_SECONDS = 120
STEPS = ("list", "call", "progress", "elicitation", "cancel", "list_changed")
TASK_STEPS = (*STEPS[:3], "task", "task question", *STEPS[3:])
TRANSPORTS = ("stdio", "http")

INSPECTOR = ("@modelcontextprotocol/inspector@2.12.0",)
V1 = ("@modelcontextprotocol/sdk@1.32.2",)
V2 = ("@modelcontextprotocol/client@2.4.0", "@modelcontextprotocol/ext-tasks@0.2.2")
FASTMCP = ("fastmcp==4.1.2", "fastmcp-tasks==4.1.2")


@dataclass(frozen=True)
class Library:
    """A client library in one of its eras.

    Attributes:
        name: What it is called here.
        era: What its script is told.
        steps: What it has to manage.
        program: Makes the command line of its script.
    """

    name: str
    era: str
    steps: tuple[str, ...]
    program: Callable[[Path], list[str]]


def script_for_node(
    name: str, packages: tuple[str, ...], script: str
) -> Callable[[Path], list[str]]:
    """A script that finds its packages beside it."""

    def program(folder: Path) -> list[str]:
        modules = folder / "node_modules"
        if not modules.exists():
            modules.symlink_to(node_modules(name, *packages))
        for each in ("session.mjs", script):
            shutil.copy(SESSION / each, folder / each)
        return [str(node()), str(folder / script)]

    return program


def script_for_fastmcp(_folder: Path) -> list[str]:
    """A script that runs where FastMCP is installed."""
    return [str(python_with("fastmcp", *FASTMCP) / "python"), str(SESSION / "fastmcp_session.py")]


V1_SCRIPT = script_for_node("sdk-v1", V1, "v1.mjs")
V2_SCRIPT = script_for_node("sdk-v2", V2, "v2.mjs")
LIBRARIES = (
    Library("typescript-1", "legacy", STEPS, V1_SCRIPT),
    Library("typescript-2", "legacy", STEPS, V2_SCRIPT),
    Library("typescript-2", "auto", TASK_STEPS, V2_SCRIPT),
    Library("fastmcp", "legacy", STEPS, script_for_fastmcp),
    Library("fastmcp", "auto", TASK_STEPS, script_for_fastmcp),
)


@contextmanager
def stage(transport: str) -> Generator[tuple[Path, list[str]]]:
    """The folder of a definition file, and what reaches its server: a URL or a command line."""
    with ExitStack() as stack:
        experts = stack.enter_context(workplace())
        for name in EXPERTS:
            shutil.copy(SESSION / name, experts / name)
        if transport == "http":
            server = HttpServer(experts, plain_environment(), *OPTIONS)
            yield experts, [stack.enter_context(server).url]
        else:
            # Without --config, which the Inspector would take for its own: the folder has the file.
            yield experts, [*PERSTACK, "serve", *OPTIONS]


def holds_for(library: Library, transport: str) -> bool:
    """Have a library play its session, and say how it went."""
    with stage(transport) as (folder, server):
        config = folder / "perstack.toml"
        command = [*library.program(folder), transport, library.era, str(config), *server]
        done = subprocess.run(
            command,
            cwd=folder,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PLAY_SECONDS,
            check=False,
        )
    taken = {line["step"]: line for line in reports(done.stdout)}
    good = [step for step in library.steps if taken.get(step, {}).get("ok")]
    holds = len(good) == len(library.steps) and done.returncode == 0
    said = [f"{step} {taken[step].get('note', '')}".rstrip() for step in good]
    say(f"{library.name} {library.era} over {transport}: {', '.join(said)}")
    for step in library.steps:
        if step not in good:
            say(f"  {step} FAILED: {taken.get(step, {}).get('note', 'not reached')}")
    if not holds:
        say(f"  exit code {done.returncode}: {done.stderr.decode(errors='replace')[-1500:]}")
    return holds


def reports(output: bytes) -> Iterator[dict[str, Any]]:
    """The lines of a session's script."""
    for line in output.splitlines():
        if line.startswith(b"{"):
            yield json.loads(line)


def inspector_accepts(transport: str) -> bool:
    """The Inspector's strict reading of the tools: portable names and schemas."""
    with stage(transport) as (folder, server):
        program = node_modules("inspector", *INSPECTOR) / ".bin" / "mcp-inspector"
        reach = [*server, "--transport", "http"] if transport == "http" else server
        done = subprocess.run(
            [
                *(str(node()), str(program.resolve()), "--cli", *reach),
                *("--method", "tools/list", "--strict", "--format", "json", "-q"),
            ],
            cwd=folder,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PLAY_SECONDS,
            check=False,
        )
    listed = done.stdout.count(b'"inputSchema"')
    say(f"inspector --strict over {transport}: exit code {done.returncode}, {listed} tools")
    if done.returncode:
        say(f"  {(done.stdout + done.stderr).decode(errors='replace')[-1500:]}")
    return done.returncode == 0 and listed > 0


def main() -> None:
    """Play all sessions, or those of the libraries that are named."""
    wanted = set(sys.argv[1:]) or {"inspector", *(library.name for library in LIBRARIES)}
    held = [inspector_accepts(transport) for transport in TRANSPORTS if "inspector" in wanted]
    held += [
        holds_for(library, transport)
        for library in LIBRARIES
        for transport in TRANSPORTS
        if library.name in wanted
    ]
    conclude(
        "sdk-clients",
        holds=bool(held) and all(held),
        seen=f"{sum(held)} of {len(held)} sessions went as they should "
        f"({', '.join(sorted(wanted))})",
    )


if __name__ == "__main__":
    main()
