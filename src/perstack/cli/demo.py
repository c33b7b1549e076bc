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

from perstack.cli.demo_stage import (
    QUICKSTART,
    cache_folder,
    lay_out,
    prepare_time_server,
    shipped_definitions,
)
from perstack.cli.demo_view import DemoView
from perstack.cli.exits import exit_code_for
from perstack.cli.history import Story, Wanted, open_history, read_story
from perstack.cli.output import Terminal
from perstack.definition.model import ProviderName
from perstack.errors import ConfigError
from perstack.store.sqlite import store_path

TOOL = "release-review"
QUERY = "Which service is worse off since the release, and what should we look at first?"
ENV_FILES = (".env", ".env.local")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
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
    binaries = prepare_time_server(cache_folder(os.environ), view.note)
    with _workspace(is_kept=options.keep) as folder:
        lay_out(shipped_definitions() / QUICKSTART, folder)
        environment = {**os.environ, "PATH": _path_with(binaries, os.environ)}
        return anyio.run(partial(_play, folder, environment, options, view))


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


async def _play(
    folder: Path, environment: dict[str, str], options: Namespace, view: DemoView
) -> int:
    # Loaded here, because the protocol's SDK takes its time and the installation may fail first.
    from mcp import StdioServerParameters  # noqa: PLC0415 - see above

    from perstack.cli.demo_client import Watcher, ask_expert  # noqa: PLC0415 - see above

    arguments = ["serve", "--config", str(folder / "perstack.toml"), *model_arguments(options)]
    view.opening(folder, shlex.join(("perstack", *arguments)), TOOL, QUERY)
    before = _files(folder)
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "perstack", *arguments], env=environment, cwd=folder
    )
    answer = await ask_expert(server, TOOL, QUERY, Watcher(view.tools, view.progress))
    story = await _stored(folder, answer.job_id)
    job = story.view
    view.outcome(story, job.text or answer.text, sorted(_files(folder) - before))
    view.events(job, folder, _again(options), is_kept=options.keep)
    view.traces(job, environment)
    failure = job.checkpoint.error
    return exit_code_for(job.job.status, failure.name if failure else None)


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


def _again(options: Namespace) -> str:
    words = ["perstack", "demo"]
    if options.provider is not None:
        words += ["--provider", options.provider]
    if options.model is not None:
        words += ["--model", options.model]
    return shlex.join((*words, "--keep"))


async def _stored(folder: Path, job_id: str) -> Story:
    path = store_path(folder)
    async with open_history(path) as store:
        return await read_story(store, path, Wanted(job_id=job_id))


def _files(folder: Path) -> set[str]:
    """The files of the experts: the folder `perstack` is the runtime's own."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "perstack"
    }
