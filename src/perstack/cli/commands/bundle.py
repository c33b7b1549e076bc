"""`perstack bundle`: experts as an `.mcpb` file, which desktop clients install by a click."""

import os
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from perstack import __version__
from perstack.cli.args import add_file_arguments, load_requested_definitions
from perstack.cli.bundle_contents import check_wheel, named_files, own_wheel, zip_files
from perstack.cli.formatting import shorten
from perstack.cli.mcp_clients import Json, to_pretty_json
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.definition.model import Definitions
from perstack.definition.references import strip_version
from perstack.errors import ConfigError
from perstack.model_resolution import needed_variables
from perstack.tool_names import tool_name

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MANIFEST_VERSION = "0.4"
"""The first that lets the client bring Python and the packages by itself."""

ENTRY_POINT = "server/main.py"
DEFINITION_FOLDER = "experts"
"""Apart from what else there is, so that no file of a skill takes its place."""

DEFINITION_FILE = "perstack.toml"
WORKSPACE_OPTION = "workspace"
MAX_DESCRIPTION_CHARACTERS = 200
ENTRY_POINT_SOURCE = '''"""Starts perstack on the definition of this bundle."""

import sys
from pathlib import Path

from perstack.cli.main import main

DEFINITION = Path(__file__).parents[1] / "experts" / "perstack.toml"

raise SystemExit(main(["serve", "--config", str(DEFINITION), *sys.argv[1:]]))
'''


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
        help="a wheel of perstack to take along, in place of this program itself",
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    loaded = load_requested_definitions(options)
    if not loaded.definitions.coordinators():
        raise ConfigError(
            f"{loaded.path} defines no expert that could become a tool.",
            hint="Add one whose name has no @.",
        )
    output: Path = options.output or Path(f"{options.name}.mcpb")
    named = named_files(loaded)
    wheel = own_wheel() if options.wheel is None else _read_wheel(options.wheel)
    content = _archive(loaded.path, named, wheel, _manifest(loaded.definitions, options))
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.") from error
    terminal.write_line(str(output))
    if named:
        packed = f"With it come {', '.join(named)}, but nothing that these read or import."
        terminal.info(packed, "dim")
    terminal.info("Open it with a client that takes .mcpb files, or drop it on its window.", "dim")
    return EXIT_SUCCESS


def _parse_name(text: str) -> str:
    if NAME_PATTERN.fullmatch(text):
        return text
    raise ArgumentTypeError(f"{text!r} is not a name of lower-case letters, digits and hyphens")


def _manifest(definitions: Definitions, options: Namespace) -> Json:
    experts = definitions.coordinators()
    names = ", ".join(strip_version(expert.key) for expert in experts)
    variables = needed_variables(definitions, {})
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": options.name,
        "display_name": options.title or options.name,
        "version": __version__,
        "description": shorten(f"Experts as tools: {names}", MAX_DESCRIPTION_CHARACTERS),
        "author": {"name": options.author},
        "server": {
            "type": "uv",
            "entry_point": ENTRY_POINT,
            "mcp_config": {
                "command": "uv",
                "args": [
                    *("run", "--directory", "${__dirname}", ENTRY_POINT),
                    *("--workspace", f"${{user_config.{WORKSPACE_OPTION}}}"),
                ],
                "env": {each: f"${{user_config.{each.lower()}}}" for each in variables},
            },
        },
        "tools": [
            {
                "name": tool_name(strip_version(expert.key)),
                "description": (expert.description or f"Asks the expert {expert.key}.").strip(),
            }
            for expert in experts
        ],
        "tools_generated": True,
        "user_config": {
            WORKSPACE_OPTION: {
                "type": "directory",
                "title": "Workspace",
                "description": "The folder that the experts may work in, and no other",
                "required": True,
            },
            **{
                each.lower(): {
                    "type": "string",
                    "title": each,
                    "description": f"The value of {each}, which the experts need",
                    "sensitive": True,
                    "required": True,
                }
                for each in variables
            },
        },
        "compatibility": {"runtimes": {"python": ">=3.11"}},
    }


def _archive(
    definition: Path, named: dict[str, Path], wheel: tuple[str, bytes], manifest: Json
) -> bytes:
    wheel_name, wheel_content = wheel
    files = {
        "manifest.json": to_pretty_json(manifest).encode(),
        "pyproject.toml": _pyproject_text(manifest["name"], wheel_name).encode(),
        wheel_name: wheel_content,
        ENTRY_POINT: ENTRY_POINT_SOURCE.encode(),
        f"{DEFINITION_FOLDER}/{DEFINITION_FILE}": _read_content(definition),
        **{f"{DEFINITION_FOLDER}/{name}": _read_content(path) for name, path in named.items()},
    }
    executable = (name for name, path in named.items() if os.access(path, os.X_OK))
    return zip_files(files, frozenset(f"{DEFINITION_FOLDER}/{name}" for name in executable))


def _pyproject_text(name: str, wheel: str) -> str:
    return f"""\
[project]
name = "{name}-bundle"
version = "{__version__}"
requires-python = ">=3.11"
dependencies = ["perstack"]

[tool.uv.sources]
perstack = {{ path = "{wheel}" }}
"""


def _read_wheel(path: Path) -> tuple[str, bytes]:
    content = _read_content(path)
    check_wheel(path.name, content)
    return path.name, content


def _read_content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
