"""`perstack demo`: experts at work behind an MCP server, on real files, without a key."""

import os
import shlex
import shutil
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import get_args

import anyio

from perstack.cli.commands.demo_setup import (
    QUICKSTART,
    cache_folder,
    copy_definitions,
    prepare_time_server,
    shipped_definitions,
)
from perstack.cli.job_log import JobLog, JobSelector, read_job_log
from perstack.cli.render.demo import DemoView
from perstack.cli.terminal import Terminal, exit_code_for_status
from perstack.definition.model import ProviderName
from perstack.errors import ConfigError
from perstack.stores import open_store, sqlite_url, store_path

TOOL = "release-review"
QUERY = "Which service is worse off since the release, and what should we look at first?"
ENV_FILES = (".env", ".env.local")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--provider",
        choices=get_args(ProviderName),
        metavar="NAME",
        help="a provider of yours instead of the script",
    )
    parser.add_argument("--model", metavar="NAME", help="with --provider: its model")
    parser.add_argument("--keep", action="store_true", help="keep the workspace")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Play the demo.

    Raises:
        PerstackError: It cannot be played.
    """
    if options.model is not None and options.provider is None:
        raise ConfigError("--model requires --provider.")
    view = DemoView(terminal)
    binaries = prepare_time_server(cache_folder(os.environ), view.show_note)
    with _workspace(is_kept=options.keep) as folder:
        copy_definitions(shipped_definitions() / QUICKSTART, folder)
        environment = {**os.environ, "PATH": _path_with(binaries, os.environ)}
        return anyio.run(partial(_run_demo, folder, environment, options, view))


@contextmanager
def _workspace(*, is_kept: bool) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="perstack-demo-")).resolve()
    try:
        yield folder
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)


def _path_with(binaries: Path, environment: Mapping[str, str]) -> str:
    return os.pathsep.join((str(binaries), environment.get("PATH", os.defpath)))


async def _run_demo(
    folder: Path, environment: dict[str, str], options: Namespace, view: DemoView
) -> int:
    # Loaded here, because the protocol's SDK takes its time and the installation may fail first.
    from mcp import StdioServerParameters  # noqa: PLC0415 - see above

    from perstack.cli.commands.demo_client import ClientCallbacks, call_expert  # noqa: PLC0415 - see above

    arguments = ["serve", "--config", str(folder / "perstack.toml"), *model_arguments(options)]
    view.show_call(folder, shlex.join(("perstack", *arguments)), TOOL, QUERY)
    before = _workspace_files(folder)
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "perstack", *arguments], env=environment, cwd=folder
    )
    answer = await call_expert(
        server, TOOL, QUERY, ClientCallbacks(view.show_tools, view.show_progress)
    )
    job_log = await _read_demo_log(folder, answer.job_id)
    job = job_log.view
    view.show_outcome(job_log, job.text or answer.text, sorted(_workspace_files(folder) - before))
    view.show_log_command(job, folder, _rerun_command(options), is_kept=options.keep)
    view.show_trace(job, environment)
    failure = job.checkpoint.error
    return exit_code_for_status(job.job.status, failure.name if failure else None)


def model_arguments(options: Namespace) -> list[str]:
    """What `serve` must know about the model; keys come from the environment or `.env` here."""
    if options.provider is None:
        return []
    words = ["--provider", options.provider]
    if options.model is not None:
        words += ["--model", options.model]
    for file in ENV_FILES:
        if Path(file).is_file():
            words += ["--env-path", str(Path(file).resolve())]
    return words


def _rerun_command(options: Namespace) -> str:
    words = ["perstack", "demo"]
    if options.provider is not None:
        words += ["--provider", options.provider]
    if options.model is not None:
        words += ["--model", options.model]
    return shlex.join((*words, "--keep"))


async def _read_demo_log(folder: Path, job_id: str) -> JobLog:
    path = store_path(folder)
    async with open_store(sqlite_url(path)) as store:
        return await read_job_log(store, path, JobSelector(job_id=job_id))


def _workspace_files(folder: Path) -> set[str]:
    """The files of the experts: the folder `perstack` is the runtime's own."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "perstack"
    }
