"""`perstack demo`: experts at work behind an MCP server, on real files, without a key."""

import os
import shlex
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
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
from perstack.cli.formatting import format_usage
from perstack.cli.job_log import JobLog, JobSelector, read_job_log
from perstack.cli.job_tree import tree_lines
from perstack.cli.terminal import Line, Terminal, exit_code_for_status
from perstack.definition.model import ProviderName
from perstack.errors import ConfigError
from perstack.stores import open_store, sqlite_url, store_path

TOOL = "release-review"
QUERY = "Which service is worse off since the release, and what should we look at first?"
ENV_FILES = (".env", ".env.local")
OTLP_ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


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
    if options.model is not None and options.provider is None:
        raise ConfigError("--model requires --provider.")
    binaries = prepare_time_server(
        cache_folder(os.environ), lambda note: terminal.write_line(note, "dim")
    )
    path = os.pathsep.join((str(binaries), os.environ.get("PATH", os.defpath)))
    with _workspace(is_kept=options.keep) as folder:
        copy_definitions(shipped_definitions() / QUICKSTART, folder)
        return anyio.run(_run_demo, folder, {**os.environ, "PATH": path}, options, terminal)


@contextmanager
def _workspace(*, is_kept: bool) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="perstack-demo-")).resolve()
    try:
        yield folder
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)


async def _run_demo(
    folder: Path, environment: dict[str, str], options: Namespace, terminal: Terminal
) -> int:
    # Loaded here, because the protocol's SDK takes its time and the installation may fail first.
    from mcp import StdioServerParameters  # noqa: PLC0415 - see above

    from perstack.cli.commands.demo_client import call_expert  # noqa: PLC0415 - see above

    arguments = ["serve", "--config", str(folder / "perstack.toml"), *model_arguments(options)]
    terminal.write_line(f"workspace  {folder}")
    terminal.write_line(f"server     {shlex.join(('perstack', *arguments))}")
    terminal.write_line(f"call       {TOOL}: {QUERY}")
    terminal.write_line()
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "perstack", *arguments], env=environment, cwd=folder
    )
    before = _workspace_files(folder)
    answer = await call_expert(server, TOOL, QUERY, _progress_printer(terminal))
    files = sorted(_workspace_files(folder) - before)
    path = store_path(folder)
    async with open_store(sqlite_url(path)) as store:
        job_log = await read_job_log(store, path, JobSelector(job_id=answer.job_id))
    job = job_log.view
    terminal.write_lines(_outcome_lines(job_log, job.text or answer.text, files))
    terminal.write_line(f"events     {_log_command(job.job.id, folder, options)}")
    terminal.write_line(f"trace      {_trace_location(job.trace_id, environment)}")
    failure = job.checkpoint.error
    return exit_code_for_status(job.job.status, failure.name if failure else None)


def model_arguments(options: Namespace) -> list[str]:
    """What `serve` must know about the model; keys come from the environment or `.env` here."""
    if options.provider is None:
        return []
    files = [str(Path(file).resolve()) for file in ENV_FILES if Path(file).is_file()]
    return [*_requested_model(options), *(word for file in files for word in ("--env-path", file))]


def _requested_model(options: Namespace) -> list[str]:
    words = {"--provider": options.provider, "--model": options.model}
    return [word for flag, value in words.items() if value is not None for word in (flag, value)]


def _progress_printer(terminal: Terminal) -> Callable[[str], None]:
    """Prints a line of progress with the seconds since now; the same line again is left out."""
    started_at, last = time.monotonic(), ""

    def show(message: str) -> None:
        nonlocal last
        if message != last:
            last = message
            terminal.write_line(f"{time.monotonic() - started_at:5.1f} s  {message}", "dim")

    return show


def _workspace_files(folder: Path) -> set[str]:
    """The files of the experts: the folder `perstack` is the runtime's own."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "perstack"
    }


def _outcome_lines(job_log: JobLog, text: str, files: list[str]) -> Iterator[Line]:
    """How the runs ended, what was answered and which files were made."""
    view = job_log.view
    yield ""
    yield from tree_lines(job_log.entries, view.job.status)
    yield ""
    yield f"answer ({view.job.status})", "bold"
    yield from (f"  {row}".rstrip() for row in text.strip().splitlines())
    yield ""
    steps_by_run: dict[str, set[int]] = {run.run_id: set() for run in view.runs}
    for entry in job_log.entries:
        steps_by_run[entry.checkpoint.run_id].add(entry.event.stamp.step_number)
    steps = ", ".join(f"{run.expert.key} {len(steps_by_run[run.run_id])}" for run in view.runs)
    yield f"steps      {view.job.total_steps}: {steps}"
    yield f"tokens     {format_usage(view.usage)}"
    yield f"files      {', '.join(files) or 'none'}"


def _log_command(job_id: str, folder: Path, options: Namespace) -> str:
    """The command that shows every event, or the one that keeps them."""
    if options.keep:
        return f"perstack log --workspace {shlex.quote(str(folder))} --job {job_id}"
    rerun_command = shlex.join(("perstack", "demo", *_requested_model(options), "--keep"))
    return f"removed with the workspace; to keep both: {rerun_command}"


def _trace_location(trace_id: str | None, environment: Mapping[str, str]) -> str:
    endpoint = environment.get(OTLP_ENDPOINT_VARIABLE)
    if not endpoint or not trace_id:
        return f"none; set {OTLP_ENDPOINT_VARIABLE}=http://localhost:4318 to have one sent there"
    scheme, separator, rest = endpoint.partition("://")
    # The endpoint may carry credentials before an @.
    return f"{trace_id} at {scheme}{separator}{rest.rpartition('@')[2]}"
