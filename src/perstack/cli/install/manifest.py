"""The manifest of an `.mcpb` bundle: what a desktop client shows, asks for and starts."""

from perstack import __version__
from perstack.cli.install.launch import needed_variables
from perstack.cli.install.snippet import Json
from perstack.definition.model import Definitions
from perstack.definition.names import name_of
from perstack.definition.tool_names import tool_name

MANIFEST_VERSION = "0.4"
"""The first that lets the client bring Python and the packages by itself."""

ENTRY_POINT = "server/main.py"
DEFINITION = "perstack.toml"
WORKSPACE = "workspace"
MAX_DESCRIPTION = 200


def manifest(definitions: Definitions, *, name: str, title: str, author: str) -> Json:
    """What the bundle says about itself.

    Args:
        definitions: The experts in the bundle.
        name: Of the bundle, for machines.
        title: Of the bundle, for people.
        author: Who made it.
    """
    experts = definitions.coordinators()
    variables = needed_variables(definitions)
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": name,
        "display_name": title,
        "version": __version__,
        "description": _description([name_of(expert.key) for expert in experts]),
        "author": {"name": author},
        "server": {
            "type": "uv",
            "entry_point": ENTRY_POINT,
            "mcp_config": {
                "command": "uv",
                "args": [
                    *("run", "--directory", "${__dirname}", ENTRY_POINT),
                    *("--workspace", f"${{user_config.{WORKSPACE}}}"),
                ],
                "env": {each: f"${{user_config.{each.lower()}}}" for each in variables},
            },
        },
        "tools": [
            {
                "name": tool_name(name_of(expert.key)),
                "description": (expert.description or f"Asks the expert {expert.key}.").strip(),
            }
            for expert in experts
        ],
        "tools_generated": True,
        "user_config": {
            WORKSPACE: {
                "type": "directory",
                "title": "Workspace",
                "description": "The folder that the experts may work in, and no other",
                "required": True,
            },
            **{each.lower(): _secret(each) for each in variables},
        },
        "compatibility": {"runtimes": {"python": ">=3.11"}},
    }


def _secret(variable: str) -> Json:
    return {
        "type": "string",
        "title": variable,
        "description": f"The value of {variable}, which the experts need",
        "sensitive": True,
        "required": True,
    }


def _description(names: list[str]) -> str:
    text = f"Experts as tools: {', '.join(names)}"
    return text if len(text) <= MAX_DESCRIPTION else f"{text[: MAX_DESCRIPTION - 1]}…"
