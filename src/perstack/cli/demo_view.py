"""What the demo shows, in the order in which it happens."""

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from perstack.cli.history import Story
from perstack.cli.output import Terminal
from perstack.cli.summary import tokens
from perstack.cli.tree import tree
from perstack.jobs import JobView

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class DemoView:
    """Tells the demo on a terminal.

    Args:
        terminal: Where.
        monotonic: Seconds on a clock that only goes forward.
    """

    def __init__(self, terminal: Terminal, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._monotonic = monotonic
        self._began = monotonic()
        self._last = ""

    def opening(self, folder: Path, command: str, tool: str, query: str) -> None:
        """What is about to happen."""
        self._began = self._monotonic()
        self._terminal.line(f"workspace  {folder}")
        self._terminal.line(f"server     {command}")
        self._terminal.line(f"call       {tool}: {query}")
        self._terminal.line()

    def note(self, text: str) -> None:
        """Something on the way."""
        self._terminal.line(text, "dim")

    def tools(self, names: list[str]) -> None:
        """What the server offers."""
        self.progress(f"the server has the tools {', '.join(names)}")

    def progress(self, message: str) -> None:
        """A line of the call's progress; a mere sign of life is left out."""
        if message != self._last:
            self._last = message
            seconds = self._monotonic() - self._began
            self._terminal.line(f"{seconds:5.1f} s  {message}", "dim")

    def outcome(self, story: Story, text: str, files: list[str]) -> None:
        """How the runs ended, what was answered and what was made."""
        view = story.view
        line = self._terminal.line
        line()
        for branch in tree(story.entries, view.job.status):
            line(branch)
        line()
        line(f"answer ({view.job.status})", "bold")
        for row in text.strip().splitlines():
            line(f"  {row}".rstrip())
        line()
        line(f"steps      {steps(story)}")
        line(f"tokens     {tokens(view.usage)}")
        line(f"files      {', '.join(files) or 'none'}")

    def traces(self, view: JobView, environment: Mapping[str, str]) -> None:
        """Where the trace is, or how to have one."""
        endpoint = environment.get(ENDPOINT)
        if endpoint and view.trace_id:
            self._terminal.line(f"trace      {view.trace_id} at {_without_credentials(endpoint)}")
        else:
            self._terminal.line(
                f"trace      none; set {ENDPOINT}=http://localhost:4318 to have one sent there"
            )

    def events(self, view: JobView, folder: Path, again: str, *, is_kept: bool) -> None:
        """Where every event of it is."""
        if is_kept:
            where = shlex.quote(str(folder))
            self._terminal.line(f"events     perstack log --workspace {where} --job {view.job.id}")
        else:
            self._terminal.line(f"events     removed with the workspace; to keep both: {again}")


def steps(story: Story) -> str:
    """The steps of the job, and how many each run took."""
    taken: dict[str, set[int]] = {}
    for entry in story.entries:
        taken.setdefault(entry.checkpoint.run_id, set()).add(entry.event.stamp.step_number)
    runs = [f"{run.expert.key} {len(taken.get(run.run_id, ()))}" for run in story.view.runs]
    return f"{story.view.job.total_steps}: {', '.join(runs)}"


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
