"""`perstack bundle`: experts as an `.mcpb` file, which desktop clients install by a click."""

import re
import zipfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from io import BytesIO
from pathlib import Path

from perstack import __version__
from perstack.cli.args import add_file_arguments, load_requested_definitions
from perstack.cli.formatting import shorten
from perstack.cli.mcp_clients import Json, to_pretty_json
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.definition.loader import LoadedDefinitions
from perstack.definition.model import Definitions
from perstack.definition.references import strip_version
from perstack.errors import ConfigError
from perstack.model_resolution import needed_variables
from perstack.tool_names import tool_name

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MANIFEST_VERSION = "0.4"
"""The first that lets the client bring Python and the packages by itself."""

ENTRY_POINT = "server/main.py"
DEFINITION_FILE = "perstack.toml"
WORKSPACE_OPTION = "workspace"
MAX_DESCRIPTION_CHARACTERS = 200
ENTRY_POINT_SOURCE = '''"""Starts perstack on the definition of this bundle."""

import sys
from pathlib import Path

from perstack.cli.main import main

DEFINITION = Path(__file__).parents[1] / "perstack.toml"

raise SystemExit(main(["serve", "--config", str(DEFINITION), *sys.argv[1:]]))
'''
ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""The time of every file, so that the same definition makes the same archive."""


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
    output: Path = options.output or Path(f"{options.name}.mcpb")
    content = _archive(loaded, _manifest(loaded.definitions, options), options.wheel)
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


def _archive(loaded: LoadedDefinitions, manifest: Json, wheel: Path | None) -> bytes:
    files = {
        "manifest.json": to_pretty_json(manifest).encode(),
        "pyproject.toml": _pyproject_text(manifest["name"], wheel).encode(),
        ENTRY_POINT: ENTRY_POINT_SOURCE.encode(),
        DEFINITION_FILE: _read_content(loaded.path),
    }
    if wheel is not None:
        files[wheel.name] = _read_content(wheel)
    script = loaded.definitions.provider.setting.script
    if script is not None:
        files[script] = _read_content(loaded.path.parent / script)
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, ZIP_TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _pyproject_text(name: str, wheel: Path | None) -> str:
    requirement = "perstack" if wheel is not None else f"perstack=={__version__}"
    source = f'\n[tool.uv.sources]\nperstack = {{ path = "{wheel.name}" }}\n' if wheel else ""
    return f"""\
[project]
name = "{name}-bundle"
version = "{__version__}"
requires-python = ">=3.11"
dependencies = ["{requirement}"]
{source}"""


def _read_content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
