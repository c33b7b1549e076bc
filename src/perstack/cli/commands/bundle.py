"""`perstack bundle`: experts as an `.mcpb` file, which desktop clients install by a click."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from perstack.cli.args import add_file_arguments, load_requested_definitions
from perstack.cli.install.bundle import BundleMetadata, build_bundle
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.errors import ConfigError

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def add_arguments(parser: ArgumentParser) -> None:
    add_file_arguments(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where it goes; by default NAME.mcpb here"
    )
    parser.add_argument(
        "--name", type=_parse_name, default="perstack-experts", metavar="NAME", help="of the bundle"
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
    loaded = load_requested_definitions(options)
    if not loaded.definitions.coordinators():
        raise ConfigError(
            f"{loaded.path} defines no expert that could become a tool.",
            hint="Add one whose name has no @.",
        )
    metadata = BundleMetadata(
        name=options.name, title=options.title or options.name, author=options.author
    )
    output: Path = options.output or Path(f"{options.name}.mcpb")
    content = build_bundle(loaded, metadata, options.wheel)
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.") from error
    terminal.write_line(str(output))
    terminal.info("Open it with a client that takes .mcpb files, or drop it on its window.", "dim")
    return EXIT_SUCCESS


def _parse_name(text: str) -> str:
    if NAME_PATTERN.fullmatch(text):
        return text
    raise ArgumentTypeError(f"{text!r} is not a name of lower-case letters, digits and hyphens")
