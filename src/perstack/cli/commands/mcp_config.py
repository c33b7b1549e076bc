"""`perstack mcp-config`: the configuration of a client for this machine."""

import os
import re
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from shutil import which

from perstack import __version__
from perstack.cli.args import add_file_arguments, load_requested_definitions
from perstack.cli.mcp_clients import (
    CLIENTS,
    Json,
    LocalServer,
    RemoteServer,
    ServerTarget,
    Snippet,
)
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.definition.loader import load_environment, locate_problems
from perstack.errors import ConfigError
from perstack.model_resolution import needed_variables
from perstack.skill_checks import server_commands, skill_problems

REGISTRY = "registry"
SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
NAMESPACE_PATTERN = re.compile(r"[a-z0-9]+(\.[a-z0-9-]+)+", re.IGNORECASE)
UVX_CACHE_MARKER = f"{os.sep}archive-v"
"""In the path of an environment that uvx made for one command, and may remove at any time."""

DESKTOP_PATH = os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"))
"""About what a client has that is not started from a shell; some have less."""

NEEDED_BESIDE = {"npx": ("node",), "npm": ("node",), "pnpm": ("node",), "uvx": ("uv",)}

DESCRIPTION = "Experts declared in a perstack.toml, as MCP tools whose work is never lost."


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "client",
        nargs="?",
        choices=[*CLIENTS, REGISTRY],
        metavar="CLIENT",
        help=f"{', '.join(CLIENTS)}, or {REGISTRY} for a server.json; without it, a list of them",
    )
    add_file_arguments(parser)
    parser.add_argument(
        "--name", default="perstack", metavar="NAME", help="name of the server in the client"
    )
    parser.add_argument("--link", action="store_true", help="only the link that installs it")
    parser.add_argument(
        "--url", metavar="URL", help="connect to a server that runs there instead of starting one"
    )
    parser.add_argument(
        "--token-env", metavar="NAME", help="with --url: the variable that holds the bearer token"
    )
    parser.add_argument(
        "--namespace",
        metavar="NAME",
        help=f"with {REGISTRY}: the namespace that is yours, such as io.github.OWNER",
    )
    parser.add_argument(
        "--serve",
        type=shlex.split,
        action="extend",
        default=[],
        metavar="OPTIONS",
        help='further options of perstack serve, in one word: --serve "--publish all"; repeatable',
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    if options.client is None:
        for name, client in CLIENTS.items():
            terminal.write_line(f"{name:<16}{client.title}")
        terminal.info("perstack mcp-config CLIENT prints what the client wants.", "dim")
        return EXIT_SUCCESS
    if options.client == REGISTRY:
        terminal.write_json(_registry_entry(options.namespace, options.url))
        return EXIT_SUCCESS
    target = _server_target(options)
    snippet = CLIENTS[options.client].to_snippet(options.name, target)
    if options.link:
        terminal.write_line(_install_link(snippet, options.client))
        return EXIT_SUCCESS
    terminal.write_line(snippet.text)
    for note in _notes(snippet):
        terminal.info(note, "dim")
    for problem in target.problems if isinstance(target, LocalServer) else ():
        terminal.info(f"warning: {problem}", "yellow")
    return EXIT_SUCCESS


def _server_target(options: Namespace) -> ServerTarget:
    url: str | None = options.url
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"{url!r} is not the URL of a server.", hint="It looks like https://HOST/mcp."
            )
        return RemoteServer(url=url, token_variable=options.token_env)
    if options.token_env is not None:
        raise ConfigError("--token-env needs --url.", hint="A server that is started wants none.")
    loaded = load_requested_definitions(options, keep_sound=True)
    path = loaded.path.resolve()
    # The folder in which the client will start the server is not known here.
    provided = load_environment(loaded.definitions.env_path, (path.parent,), {}, must_exist=False)
    command, *prefix = own_command(sys.executable, which("uvx"))
    problems = locate_problems(path, skill_problems(loaded.definitions, os.environ, ()))
    commands = server_commands(loaded.definitions)
    return LocalServer(
        command=command,
        args=(*prefix, "serve", "--config", str(path), *options.serve),
        variables=tuple(
            name for name in needed_variables(loaded.definitions, provided) if name not in provided
        ),
        search_path=needed_search_path(commands, os.environ.get("PATH", "")),
        problems=tuple(map(str, problems)),
    )


def needed_search_path(commands: Iterable[str], search_path: str) -> str | None:
    """The `PATH` with which commands are found; `None` if that of every client has them.

    Args:
        commands: What skills start.
        search_path: The present `PATH`.
    """
    folders: dict[str, None] = {}
    for command in commands:
        # What npx starts, and npx itself, are scripts that look for node.
        for program in (command, *NEEDED_BESIDE.get(command, ())):
            found = None if "/" in program else which(program, path=search_path)
            if found is not None and found != which(program, path=DESKTOP_PATH):
                folders[str(Path(found).absolute().parent)] = None
    return os.pathsep.join((*folders, DESKTOP_PATH)) if folders else None


def own_command(executable: str, uvx: str | None) -> list[str]:
    """The command that is this program, as arguments that work in any folder and with any PATH."""
    interpreter = Path(executable)
    if UVX_CACHE_MARKER in executable and uvx is not None:
        return [uvx, "perstack"]
    script = interpreter.with_name("perstack.exe" if os.name == "nt" else "perstack")
    return [str(script)] if script.is_file() else [str(interpreter), "-m", "perstack"]


def _install_link(snippet: Snippet, client: str) -> str:
    if snippet.link is None:
        raise ConfigError(
            f"{CLIENTS[client].title} knows no links that install a server.",
            hint=f"Leave out --link, and put what comes into {snippet.file}.",
        )
    return snippet.link


def _notes(snippet: Snippet) -> list[str]:
    notes = [f"Goes into {snippet.file}."]
    if snippet.command is not None:
        notes.append(f"Or: {snippet.command}")
    if snippet.link is not None:
        notes.append(f"Or open: {snippet.link}")
    return [*notes, *snippet.notes]


def _registry_entry(namespace: str | None, url: str | None) -> Json:
    """The entry of this package in the MCP registry, or of the server that runs at `url`."""
    if namespace is None or not NAMESPACE_PATTERN.fullmatch(namespace):
        raise ConfigError(
            "A registry entry needs --namespace, a reversed host name that is yours.",
            hint="For a GitHub account it is io.github.OWNER.",
        )
    entry: Json = {
        "$schema": SCHEMA,
        "name": f"{namespace}/perstack",
        "title": "Perstack",
        "description": DESCRIPTION,
        "version": __version__,
    }
    if url is not None:
        return {**entry, "remotes": [{"type": "streamable-http", "url": url}]}
    return {**entry, "packages": [_package_entry()]}


def _package_entry() -> Json:
    return {
        "registryType": "pypi",
        "identifier": "perstack",
        "version": __version__,
        "runtimeHint": "uvx",
        "transport": {"type": "stdio"},
        "packageArguments": [
            {"type": "positional", "value": "serve"},
            {
                "type": "named",
                "name": "--config",
                "description": "The perstack.toml with your experts",
                "format": "filepath",
                "isRequired": True,
            },
        ],
        "environmentVariables": [
            {
                "name": name,
                "description": f"Key for the models of {provider}, if your experts use them",
                "isSecret": True,
            }
            for name, provider in (("ANTHROPIC_API_KEY", "Anthropic"), ("OPENAI_API_KEY", "OpenAI"))
        ],
    }
