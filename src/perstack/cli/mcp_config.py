"""`perstack mcp-config`: what to tell a client, exactly as it is right on this machine."""

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from perstack.cli.arguments import add_file_arguments
from perstack.cli.exits import COMPLETED
from perstack.cli.install.clients import CLIENTS, Target
from perstack.cli.install.launch import launch_of, remote_of
from perstack.cli.install.registry import registry_entry
from perstack.cli.install.snippet import Snippet, pretty
from perstack.cli.output import Terminal
from perstack.definition.load import find_config, load
from perstack.errors import ConfigError

REGISTRY = "registry"


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
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
        default=[],
        metavar="OPTIONS",
        help='further options of perstack serve, in one word: --serve="--publish all"',
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    """Print what belongs into the client's file on stdout, and what to do with it on stderr.

    Raises:
        PerstackError: The definition file or a `.env` file cannot be read, or the client cannot be
        told what was asked.
    """
    if options.client is None:
        for name, client in CLIENTS.items():
            terminal.line(f"{name:<16}{client.title}")
        terminal.note("perstack mcp-config CLIENT prints what the client wants.", "dim")
        return COMPLETED
    if options.client == REGISTRY:
        terminal.line(pretty(registry_entry(options.namespace, options.url)))
        return COMPLETED
    snippet = CLIENTS[options.client].write(options.name, _target(options))
    if options.link:
        terminal.line(_link(snippet, options.client))
        return COMPLETED
    terminal.line(snippet.text)
    for note in _notes(snippet):
        terminal.note(note, "dim")
    return COMPLETED


def _target(options: Namespace) -> Target:
    if options.url is not None:
        return remote_of(options.url, options.token_env)
    if options.token_env is not None:
        raise ConfigError("--token-env needs --url.", hint="A server that is started wants none.")
    loaded = load(find_config(options.config, Path.cwd()), strict=options.strict)
    return launch_of(loaded, tuple(options.serve))


def _link(snippet: Snippet, client: str) -> str:
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
