"""`perstack bundle`: experts as an `.mcpb` file, which desktop clients install by a click."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from perstack.cli.arguments import add_file_arguments
from perstack.cli.exits import COMPLETED
from perstack.cli.install.archive import Labels, bundle
from perstack.cli.output import Terminal
from perstack.definition.find import find_config
from perstack.definition.load import load
from perstack.errors import ConfigError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_file_arguments(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where it goes; by default NAME.mcpb here"
    )
    parser.add_argument(
        "--name", type=_name, default="perstack-experts", metavar="NAME", help="of the bundle"
    )
    parser.add_argument("--title", metavar="TEXT", help="what people read; by default the name")
    parser.add_argument(
        "--author", default="unknown", metavar="TEXT", help="who made it, as clients show it"
    )
    parser.add_argument(
        "--wheel",
        type=Path,
        metavar="FILE",
        help="a wheel of perstack to take along; else the client fetches the package",
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    """Write the bundle and say where it is.

    Raises:
        PerstackError: The definition cannot be used, or the file cannot be written.
    """
    loaded = load(find_config(options.config, Path.cwd()), strict=options.strict)
    if not loaded.definitions.coordinators():
        raise ConfigError(
            f"{loaded.path} defines no expert that could become a tool.",
            hint="Add one whose name has no @.",
        )
    labels = Labels(name=options.name, title=options.title or options.name, author=options.author)
    output: Path = options.output or Path(f"{options.name}.mcpb")
    content = bundle(loaded, labels, options.wheel)
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.") from error
    terminal.line(str(output))
    terminal.note("Open it with a client that takes .mcpb files, or drop it on its window.", "dim")
    return COMPLETED


def _name(text: str) -> str:
    if NAME.fullmatch(text):
        return text
    raise ArgumentTypeError(f"{text!r} is not a name of lower-case letters, digits and hyphens")
