"""How `perstack log` shows jobs and events: as text for people, or as JSON."""

import json
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

from perstack.cli.event_text import event_lines
from perstack.cli.history import Story
from perstack.cli.log_document import (
    checkpoint_document,
    document,
    event_document,
    job_document,
)
from perstack.cli.output import Terminal
from perstack.cli.selection import Selection, Shown
from perstack.cli.story import (
    checkpoint_lines,
    conversation,
    figures,
    footer,
    header,
    job_line,
)
from perstack.cli.tree import tree
from perstack.core.checkpoint import Checkpoint, Job


class LogView:
    """Writes to a terminal in the form that the options ask for."""

    def __init__(self, options: Namespace, terminal: Terminal) -> None:
        self._terminal = terminal
        self._is_json: bool = options.json or options.pretty
        self._indent = 2 if options.pretty else None
        self._is_verbose: bool = options.verbose
        self._has_messages: bool = options.messages

    def jobs(self, jobs: Iterable[Job]) -> None:
        """A list of jobs."""
        if self._is_json:
            self._document([job_document(job) for job in jobs])
            return
        for job in jobs:
            self._terminal.line(job_line(job))

    def story(self, story: Story, selection: Selection, checkpoint: Checkpoint | None) -> None:
        """A job with the selected events, and a checkpoint of it if that is of interest."""
        if self._is_json:
            shown = [one for entry in story.entries for one in selection.pick(entry)]
            self._document(document(story, shown, selection, self._checkpoint(checkpoint)))
            return
        self._head(story)
        self._terminal.line()
        self._tree(story)
        if checkpoint is not None:
            self._standing(checkpoint)
        self._terminal.line()
        for entry in story.entries:
            self.events(selection.pick(entry))
        self._terminal.line(footer(selection))

    def summary(self, story: Story, selection: Selection) -> None:
        """A job with what the selected events add up to."""
        for entry in story.entries:
            for _ in selection.pick(entry):
                pass
        if self._is_json:
            self._document(document(story, (), selection, None))
            return
        self._head(story)
        self._terminal.line()
        self._tree(story)
        self._terminal.line()
        for line in figures(selection.matched):
            self._terminal.line(line)

    def beginning(self, story: Story) -> None:
        """What stands above events that are still to come."""
        if not self._is_json:
            self._head(story)
            self._terminal.line()

    def events(self, shown: Iterable[Shown]) -> None:
        """Events, in JSON one a line."""
        for one in shown:
            if self._is_json:
                self._terminal.line(_compact(event_document(one)))
            else:
                self._event(one)

    def end(self, story: Story, selection: Selection) -> None:
        """What stands below the events, now that the job has stopped."""
        if not self._is_json:
            self._terminal.line()
            self._tree(story)
            self._terminal.line()
            self._terminal.line(footer(selection))
            self._terminal.line(f"Job: {story.view.job.id} ({story.view.job.status})")

    def _head(self, story: Story) -> None:
        for line in header(story):
            self._terminal.line(line)

    def _tree(self, story: Story) -> None:
        for line in tree(story.entries, story.view.job.status):
            self._terminal.line(line)

    def _standing(self, checkpoint: Checkpoint) -> None:
        self._terminal.line()
        for line in checkpoint_lines(checkpoint):
            self._terminal.line(line)
        if self._has_messages:
            self._terminal.line()
            for line in conversation(checkpoint):
                self._terminal.line(line)

    def _event(self, shown: Shown) -> None:
        first, *rest = event_lines(shown.entry, is_verbose=self._is_verbose)
        is_failure = "Error" in shown.entry.event.type and not shown.is_context
        plain = ("dim",) if shown.is_context else ()
        self._terminal.line(first, *(("red",) if is_failure else plain))
        for line in rest:
            self._terminal.line(line, "dim")

    def _checkpoint(self, checkpoint: Checkpoint | None) -> dict[str, Any] | None:
        if checkpoint is None:
            return None
        return checkpoint_document(checkpoint, has_messages=self._has_messages)

    def _document(self, found: object) -> None:
        self._terminal.line(json.dumps(found, ensure_ascii=False, indent=self._indent))


def _compact(found: object) -> str:
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))
