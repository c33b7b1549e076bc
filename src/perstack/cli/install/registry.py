"""The entry of a server in the MCP registry: a `server.json`."""

import re

from perstack import __version__
from perstack.cli.install.clients import Json
from perstack.errors import ConfigError

SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
NAMESPACE_PATTERN = re.compile(r"[a-z0-9]+(\.[a-z0-9-]+)+", re.IGNORECASE)
DESCRIPTION = "Experts declared in a perstack.toml, as MCP tools whose work is never lost."


def registry_entry(namespace: str | None, url: str | None) -> Json:
    """What the registry wants to know of this package, or of a server that runs somewhere.

    Args:
        namespace: Whose entry it is; the registry checks that it belongs to the publisher.
        url: Where the server runs; else it is the package that people start themselves.

    Raises:
        ConfigError: The namespace is missing, or is none.
    """
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
