"""`perstack import`: jobs that another machine exported, into the store of a workspace."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import anyio

from perstack.cli.args import add_workspace_argument
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.errors import ConfigError
from perstack.store.transfer.import_job import ImportOutcome, import_events
from perstack.store.transfer.job_archive import ArchivedJob, unpack
from perstack.store.transfer.upstream_import import find_job_folders, read_job
from perstack.stores import open_store, sqlite_url, store_path

CHANGE_LABELS: dict[ImportOutcome, str] = {
    "added": "imported",
    "extended": "imported what is new",
    "unchanged": "here already",
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE|DIR",
        help="what perstack export wrote: files with a job each, or folders with the files of jobs",
    )
    add_workspace_argument(parser, "the current folder")


def execute(options: Namespace, terminal: Terminal) -> int:
    workspace: Path = (options.workspace or Path.cwd()).resolve()
    if not workspace.is_dir():
        raise ConfigError(
            f"The workspace {workspace} is not a folder.",
            hint="Create it or give another --workspace.",
        )
    anyio.run(_import_jobs, sqlite_url(store_path(workspace)), options.files, terminal)
    return EXIT_SUCCESS


async def _import_jobs(url: str, files: list[Path], terminal: Terminal) -> None:
    # Everything is read before anything is written.
    archived_jobs = [job for path in files for job in _read_archived_jobs(path)]
    async with open_store(url) as store:
        for job in archived_jobs:
            change = await import_events(store, job.job_id, job.events)
            terminal.write_line(job.job_id)
            terminal.info(f"{CHANGE_LABELS[change]}: {job.job_id}, {len(job.events)} events", "dim")


def _read_archived_jobs(path: Path) -> list[ArchivedJob]:
    return [read_job(home) for home in find_job_folders(path)] if path.is_dir() else [unpack(path)]
