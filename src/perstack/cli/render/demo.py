"""What the demo shows, in the order in which it happens."""

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from perstack.cli.formatting import format_usage
from perstack.cli.job_log import JobLog
from perstack.cli.job_tree import tree_lines
from perstack.cli.terminal import Terminal
from perstack.jobs import JobView

OTLP_ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


class DemoView:
    """Shows the demo on a terminal.

    Args:
        terminal: Where.
        monotonic: Seconds on a clock that only goes forward.
    """

    def __init__(self, terminal: Terminal, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._monotonic = monotonic
        self._started_at = monotonic()
        self._last_message = ""

    def show_call(self, folder: Path, command: str, tool: str, query: str) -> None:
        """What is about to happen."""
        self._started_at = self._monotonic()
        self._terminal.write_line(f"workspace  {folder}")
        self._terminal.write_line(f"server     {command}")
        self._terminal.write_line(f"call       {tool}: {query}")
        self._terminal.write_line()

    def show_note(self, text: str) -> None:
        """Something on the way."""
        self._terminal.write_line(text, "dim")

    def show_tools(self, names: list[str]) -> None:
        """What the server offers."""
        self.show_progress(f"the server has the tools {', '.join(names)}")

    def show_progress(self, message: str) -> None:
        """A line of the call's progress; a mere sign of life is left out."""
        if message != self._last_message:
            self._last_message = message
            seconds = self._monotonic() - self._started_at
            self._terminal.write_line(f"{seconds:5.1f} s  {message}", "dim")

    def show_outcome(self, job_log: JobLog, text: str, files: list[str]) -> None:
        """How the runs ended, what was answered and what was made."""
        view = job_log.view
        line = self._terminal.write_line
        line()
        for branch in tree_lines(job_log.entries, view.job.status):
            line(branch)
        line()
        line(f"answer ({view.job.status})", "bold")
        for row in text.strip().splitlines():
            line(f"  {row}".rstrip())
        line()
        line(f"steps      {format_steps(job_log)}")
        line(f"tokens     {format_usage(view.usage)}")
        line(f"files      {', '.join(files) or 'none'}")

    def show_trace(self, view: JobView, environment: Mapping[str, str]) -> None:
        endpoint = environment.get(OTLP_ENDPOINT_VARIABLE)
        if endpoint and view.trace_id:
            self._terminal.write_line(
                f"trace      {view.trace_id} at {_without_credentials(endpoint)}"
            )
        else:
            self._terminal.write_line(
                f"trace      none; set {OTLP_ENDPOINT_VARIABLE}=http://localhost:4318"
                " to have one sent there"
            )

    def show_log_command(
        self, view: JobView, folder: Path, rerun_command: str, *, is_kept: bool
    ) -> None:
        """Where every event of it is."""
        if is_kept:
            where = shlex.quote(str(folder))
            self._terminal.write_line(
                f"events     perstack log --workspace {where} --job {view.job.id}"
            )
        else:
            self._terminal.write_line(
                f"events     removed with the workspace; to keep both: {rerun_command}"
            )


def format_steps(job_log: JobLog) -> str:
    """The steps of the job, and how many each run took."""
    steps_by_run: dict[str, set[int]] = {}
    for entry in job_log.entries:
        steps_by_run.setdefault(entry.checkpoint.run_id, set()).add(entry.event.stamp.step_number)
    runs = [
        f"{run.expert.key} {len(steps_by_run.get(run.run_id, ()))}" for run in job_log.view.runs
    ]
    return f"{job_log.view.job.total_steps}: {', '.join(runs)}"


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
