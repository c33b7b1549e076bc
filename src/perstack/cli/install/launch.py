"""How a client starts perstack on this machine, or reaches one that runs."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from perstack.definition.loader import LoadedDefinitions, load_environment
from perstack.definition.model import Definitions
from perstack.errors import ConfigError
from perstack.model_resolution import needed_variables

UVX_CACHE_MARKER = f"{os.sep}archive-v"
"""In the path of an environment that uvx made for one command, and may remove at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """What a client starts.

    Attributes:
        command: The program, by its full path: a desktop client has another PATH than a shell.
        args: Its arguments.
        variables: Names that the experts need and that no `.env` file provides. Their values are
        nobody's business here.
    """

    command: str
    args: tuple[str, ...]
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteServer:
    """A server that runs already.

    Attributes:
        url: Its endpoint.
        token_variable: The variable that holds the bearer token, if it wants one.
    """

    url: str
    token_variable: str | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.token_variable,) if self.token_variable else ()


def local_server_for(loaded: LoadedDefinitions, options: tuple[str, ...] = ()) -> LocalServer:
    """How to start a server on a definition file; `options` are further ones for `serve`.

    Raises:
        ConfigError: A `.env` file cannot be read.
    """
    path = loaded.path.resolve()
    command, *prefix = own_command(sys.executable, which("uvx"))
    return LocalServer(
        command=command,
        args=(*prefix, "serve", "--config", str(path), *options),
        variables=missing_variables(loaded.definitions, path.parent),
    )


def own_command(executable: str, uvx: str | None) -> list[str]:
    """The command that is this program, as arguments that work in any folder and with any PATH."""
    interpreter = Path(executable)
    if UVX_CACHE_MARKER in executable and uvx is not None:
        return [uvx, "perstack"]
    script = interpreter.with_name("perstack.exe" if os.name == "nt" else "perstack")
    return [str(script)] if script.is_file() else [str(interpreter), "-m", "perstack"]


def missing_variables(definitions: Definitions, folder: Path) -> tuple[str, ...]:
    """The names that experts need and that the `.env` files of the definition do not provide.

    Raises:
        ConfigError: A `.env` file cannot be read.
    """
    nothing: Mapping[str, str] = {}
    provided = load_environment(definitions.env_path, folder, nothing, must_exist=False)
    return tuple(name for name in needed_variables(definitions) if name not in provided)


def remote_server_at(url: str, token_variable: str | None) -> RemoteServer:
    """A server at `url`.

    Raises:
        ConfigError: That is no URL of a server.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"{url!r} is not the URL of a server.", hint="It looks like https://HOST/mcp."
        )
    return RemoteServer(url=url, token_variable=token_variable)
