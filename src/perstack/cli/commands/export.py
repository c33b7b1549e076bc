"""`perstack export`: a job as one file for another machine, or jobs as a folder of JSON files."""

import os
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from perstack.cli.args import add_store_arguments, add_wire_argument
from perstack.cli.job_log import NO_LIMIT, JobSelector, find_job, find_store
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.core.checkpoint import Job
from perstack.core.events import RunEvent
from perstack.errors import ConfigError
from perstack.store.transfer.job_archive import SUFFIX, pack
from perstack.store.transfer.upstream_export import export_job_folder, path_component
from perstack.stores import open_store, sqlite_url


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", nargs="?", metavar="JOB", help="the job; by default the latest")
    add_store_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"where the one file goes; by default JOB{SUFFIX} here",
    )
    parser.add_argument(
        "--files",
        type=Path,
        metavar="DIR",
        help="write a folder of JSON files instead: jobs, runs, checkpoints and events",
    )
    parser.add_argument("--all", action="store_true", help="with --files: every job of the store")
    add_wire_argument(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    _check_options(options)
    storage = find_store(options, JobSelector(job_id=options.job))
    terminal.write_lines(map(str, anyio.run(_export, storage, options)))
    return EXIT_SUCCESS


def _check_options(options: Namespace) -> None:
    if options.all and options.files is None:
        raise ConfigError(
            "--all writes a folder and needs --files.", hint="One file holds one job."
        )
    if options.wire == "full" and options.files is None:
        raise ConfigError(
            "--wire full shapes a folder and needs --files.",
            hint="One file holds the events as they are stored.",
        )
    if options.all and options.job is not None:
        raise ConfigError("--all and the id of a job contradict each other.", hint="Choose one.")
    if options.files is not None and options.output is not None:
        raise ConfigError("--files and --output contradict each other.", hint="Choose one.")


async def _export(storage: Path, options: Namespace) -> list[Path]:
    if options.files is not None:
        return await export_files(
            storage,
            options.files,
            options.job,
            is_for_all_jobs=options.all,
            is_full=options.wire == "full",
        )
    async with open_store(sqlite_url(storage)) as store:
        job = await find_job(store, options.job)
        output: Path = options.output or Path(f"{path_component(job.id)}{SUFFIX}")
        _, events = await store.events(job.id)
        await anyio.to_thread.run_sync(_write_archive, output, job, events)
        return [output]


async def export_files(
    storage: Path,
    folder: Path,
    job_id: str | None,
    *,
    is_for_all_jobs: bool,
    is_full: bool = False,
) -> list[Path]:
    """Write a job, the latest one by default, or every job as files below `folder`.

    With `is_full`, events have the full shape.

    Returns:
        The folders of the jobs.

    Raises:
        ConfigError: The folder cannot be written.
        NotFoundError: There is no such job.
        StoreError: The store cannot be read.
    """
    async with open_store(sqlite_url(storage)) as store:
        if is_for_all_jobs:
            jobs = await store.jobs(limit=NO_LIMIT)
        else:
            jobs = (await find_job(store, job_id),)
        job_folders: list[Path] = []
        for job in jobs:
            _, events = await store.events(job.id)
            write = partial(export_job_folder, folder, job, events, is_full=is_full)
            job_folders.append(await anyio.to_thread.run_sync(write))
        return job_folders


def _write_archive(output: Path, job: Job, events: tuple[RunEvent, ...]) -> None:
    partial_file = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        partial_file.write_bytes(pack(job, events))
        partial_file.chmod(0o600)
        partial_file.replace(output)
    except OSError as error:
        partial_file.unlink(missing_ok=True)
        raise ConfigError(
            f"{output} cannot be written: {error.strerror}.", hint="Name another with --output."
        ) from error
