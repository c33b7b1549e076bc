"""`perstack diff`: two jobs side by side, and where they part."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio

from perstack.cli.arguments import add_workspace_argument
from perstack.cli.differences import Line, difference_lines
from perstack.cli.exits import COMPLETED, FAILED
from perstack.cli.output import Terminal
from perstack.cli.stored import stored_events
from perstack.core.alignment import RunPair, StepPair, align, align_runs, first_parting
from perstack.core.events import RunEvent
from perstack.core.tale import RunTale, tales, usage_of
from perstack.core.trail import Trail
from perstack.errors import NotFoundError

MOST_DIFFERENCES = 8
"""Of one step, as people are shown them."""


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("one", metavar="A", help="a job, or one run of it as JOB/RUN")
    parser.add_argument("other", metavar="B", help="the job or run to compare it with")
    add_workspace_argument(parser, "the current folder, else that of the definition file")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        help="definition file whose folder is looked in",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Compare.

    Raises:
        NotFoundError: There is no such job or run.
        StoreError: The store cannot be read.
    """
    names: list[str] = [options.one, options.other]
    (one_id, _, one_run), (other_id, _, other_run) = (name.partition("/") for name in names)
    records = anyio.run(stored_events, options, one_id, other_id)
    one, other = (
        _Side(name, _runs(events, run_id))
        for name, events, run_id in zip(names, records, (one_run, other_run), strict=True)
    )
    are_runs = bool(one_run and other_run)
    pairs = align_runs(one.roots[0], other.roots[0]) if are_runs else align(one.roots, other.roots)
    if options.json:
        terminal.line(json.dumps(_document(one, other, pairs), ensure_ascii=False, indent=2))
    else:
        for line, colour in _lines(one, other, pairs):
            terminal.line(line, *([colour] if colour else ()))
    return COMPLETED if first_parting(pairs) is None else FAILED


def _runs(events: Sequence[RunEvent], run_id: str) -> list[RunTale]:
    roots = tales(Trail(events).steps)
    if not run_id:
        return roots
    for root in roots:
        for run in root.all():
            if run.run_id == run_id:
                return [run.whole()]
    raise NotFoundError(
        f"Run {run_id} not found in job {events[0].stamp.job_id}.",
        hint="perstack log --job ID shows the runs of a job.",
    )


class _Side:
    """One of the two, with its figures."""

    def __init__(self, name: str, roots: list[RunTale]) -> None:
        self.name = name
        self.roots = roots

    @property
    def runs(self) -> list[RunTale]:
        """All of it."""
        return [run for root in self.roots for run in root.all()]

    def document(self) -> dict[str, Any]:
        """What it comes to."""
        return {
            "name": self.name,
            "status": self.roots[-1].newest.status,
            "text": self.roots[-1].newest.text,
            "runs": len(self.runs),
            **_figures(self.runs),
        }


def _figures(runs: Sequence[RunTale]) -> dict[str, Any]:
    began = min(run.newest.started_at for run in runs)
    ended = max(run.newest.updated_at for run in runs)
    return {
        "steps": sum(len(run.steps) for run in runs),
        "usage": usage_of(runs).model_dump(mode="json", by_alias=True),
        "durationMs": ended - began,
    }


def _lines(one: _Side, other: _Side, pairs: Sequence[RunPair]) -> Iterator[Line]:
    parting = first_parting(pairs)
    if parting is None:
        yield f"{one.name} and {other.name} are the same.", "green"
    else:
        run, step = parting
        yield (
            f"{one.name} and {other.name} part at step {step.place} of {run.expert_key}.",
            "red",
        )
        yield from _parting(step)
    yield "", None
    yield from ((row, None) for row in _table(pairs))


def _parting(step: StepPair) -> Iterator[Line]:
    if step.one is None or step.other is None:
        yield f"  Only {'B' if step.one is None else 'A'} has it.", None
    for difference in step.differences[:MOST_DIFFERENCES]:
        yield from difference_lines(difference)
    left_out = len(step.differences) - MOST_DIFFERENCES
    if left_out > 0:
        yield f"  … and {left_out} more; --json has all of them", "dim"


def _table(pairs: Sequence[RunPair]) -> Iterator[str]:
    rows = [("run", "steps", "tokens", "seconds", "status", "")]
    rows += [_row(pair) for pair in pairs]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _row(pair: RunPair) -> tuple[str, str, str, str, str, str]:
    both = (pair.one, pair.other)
    return (
        "  " * pair.depth + pair.expert_key,
        _beside(str(len(run.steps)) if run else "-" for run in both),
        _beside(f"{run.newest.usage.total_tokens:,}" if run else "-" for run in both),
        _beside(f"{_milliseconds(run) / 1000:.1f}" if run else "-" for run in both),
        _beside(run.newest.status if run else "-" for run in both),
        f"differs from step {pair.parted[0].place}" if pair.parted else "the same",
    )


def _beside(values: Iterable[str]) -> str:
    """Both values, or the one that they are."""
    return " / ".join(dict.fromkeys(values))


def _milliseconds(run: RunTale) -> int:
    return run.newest.updated_at - run.newest.started_at


def _document(one: _Side, other: _Side, pairs: Sequence[RunPair]) -> dict[str, Any]:
    parting = first_parting(pairs)
    return {
        "isSame": parting is None,
        "a": one.document(),
        "b": other.document(),
        "first": None
        if parting is None
        else {"expertKey": parting[0].expert_key, **_step_document(parting[1])},
        "runs": [
            {
                "expertKey": pair.expert_key,
                "a": _run_document(pair.one),
                "b": _run_document(pair.other),
                "differences": [_step_document(step) for step in pair.parted],
            }
            for pair in pairs
        ],
    }


def _run_document(run: RunTale | None) -> dict[str, Any] | None:
    if run is None:
        return None
    parent = run.newest.delegated_by
    return {
        "runId": run.run_id,
        "status": run.newest.status,
        "delegatedBy": parent.run_id if parent else None,
        **_figures([run]),
    }


def _step_document(step: StepPair) -> dict[str, Any]:
    return {
        "step": step.place,
        "stepNumbers": {
            "a": step.one.number if step.one else None,
            "b": step.other.number if step.other else None,
        },
        "values": [
            {"path": each.path, "a": each.one, "b": each.other} for each in step.differences
        ],
    }
