"""Where the demo plays: a copy of the quickstart definitions, and the MCP server that they use."""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import perstack
from perstack.errors import ConfigError, SkillError

QUICKSTART = "quickstart"
TIME_SERVER = "mcp-server-time"
TIME_SERVER_PACKAGE = f"{TIME_SERVER}==2026.10.19"
READY_MARKER = "ready"

CommandRunner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def shipped_definitions(package: Path = Path(perstack.__file__).parent) -> Path:
    """The folder of the definitions that come with perstack.

    Args:
        package: The package's folder: definitions are inside of it once it is installed, and two
            levels above in a checkout.

    Raises:
        ConfigError: They are missing.
    """
    for folder in (package / "definitions", package.parents[1] / "definitions"):
        if (folder / QUICKSTART).is_dir():
            return folder
    raise ConfigError(
        "The definitions that come with perstack are missing.", hint="Install perstack again."
    )


def copy_definitions(source: Path, folder: Path) -> None:
    """Copy definitions into a folder, and the files of their workspace beside them."""
    for file in source.glob("*.toml"):
        shutil.copy(file, folder)
    shutil.copytree(source / "workspace", folder, dirs_exist_ok=True)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where this version keeps what the demo needs beyond perstack."""
    configured = environment.get("XDG_CACHE_HOME")
    base = Path(configured) if configured else Path.home() / ".cache"
    return base / "perstack" / f"demo-{perstack.__version__}"


def run_command(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - the commands are written below
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def prepare_time_server(
    folder: Path, notify: Callable[[str], None], run: CommandRunner = run_command
) -> Path:
    """Install the time server into a folder, unless it is there; return that of its command.

    Raises:
        SkillError: It cannot be installed.
        ConfigError: The folder cannot be written.
    """
    try:
        with _exclusive_lock(folder):
            if not _is_ready(folder):
                notify(f"installing {TIME_SERVER_PACKAGE} into {folder}, once")
                _install(folder, run)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be used: {error.strerror or type(error).__name__}.",
            hint="Set XDG_CACHE_HOME to a folder that can be written.",
        ) from error
    return folder / "bin"


def _is_ready(folder: Path) -> bool:
    # A venv whose Python was removed has a link that leads nowhere, and `exists` follows it.
    needed = (folder / READY_MARKER, folder / "bin" / "python", folder / "bin" / TIME_SERVER)
    return all(path.exists() for path in needed)


def _install(folder: Path, run: CommandRunner) -> None:
    (folder / READY_MARKER).unlink(missing_ok=True)
    python = str(folder / "bin" / "python")
    for command in (
        (sys.executable, "-m", "venv", "--clear", str(folder)),
        (python, "-m", "pip", "install", "--disable-pip-version-check", TIME_SERVER_PACKAGE),
    ):
        completed = run(command)
        if completed.returncode != 0:
            raise SkillError(
                f"{TIME_SERVER_PACKAGE} cannot be installed: {_failure_reason(completed)}.",
                skill="time",
                hint="The demo needs the package index once; check the network and pip's settings.",
            )
    (folder / READY_MARKER).touch()


def _failure_reason(completed: "subprocess.CompletedProcess[str]") -> str:
    output = f"{completed.stdout}\n{completed.stderr}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or [f"exit code {completed.returncode}"])[-1].rstrip(".")


@contextmanager
def _exclusive_lock(folder: Path) -> Generator[None]:
    """Keep other demos out meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
