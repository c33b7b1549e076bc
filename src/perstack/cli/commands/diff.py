"""`perstack diff`: two jobs side by side, and where they part."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from perstack.analysis.diff import RunPair, StepPair, align, align_runs, first_divergence
from perstack.analysis.transcript import RunTranscript, total_usage, transcripts
from perstack.cli.args import add_json_argument, add_store_arguments
from perstack.cli.formatting import format_cost, table_lines
from perstack.cli.job_log import load_events
from perstack.cli.render.diff import difference_lines
from perstack.cli.terminal import EXIT_FAILURE, EXIT_SUCCESS, Line, Terminal
from perstack.core.events import RunEvent
from perstack.core.history import JobHistory
from perstack.errors import NotFoundError

TABLE_HEADINGS = ("run", "steps", "tokens", "cost", "seconds", "status", "")
MAX_DIFFERENCES = 8
"""Of one step, as people are shown them."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("one", metavar="A", help="a job, or one run of it as JOB/RUN")
    parser.add_argument("other", metavar="B", help="the job or run to compare it with")
    add_store_arguments(parser)
    add_json_argument(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    names: list[str] = [options.one, options.other]
    (one_id, _, one_run), (other_id, _, other_run) = (name.partition("/") for name in names)
    records = anyio.run(load_events, options, one_id, other_id)
    one, other = (
        _DiffSide(name, _select_runs(events, run_id))
        for name, events, run_id in zip(names, records, (one_run, other_run), strict=True)
    )
    are_runs = bool(one_run and other_run)
    pairs = align_runs(one.roots[0], other.roots[0]) if are_runs else align(one.roots, other.roots)
    if options.json:
        terminal.write_json(_report_document(one, other, pairs))
    else:
        terminal.write_lines(_report_lines(one, other, pairs))
    return EXIT_SUCCESS if first_divergence(pairs) is None else EXIT_FAILURE


def _select_runs(events: Sequence[RunEvent], run_id: str) -> list[RunTranscript]:
    roots = transcripts(JobHistory(events).recorded_events)
    if not run_id:
        return roots
    for root in roots:
        for run in root.walk():
            if run.run_id == run_id:
                return [run.with_history()]
    raise NotFoundError(
        f"Run {run_id} not found in job {events[0].stamp.job_id}.",
        hint="perstack log --job ID shows the runs of a job.",
    )


@dataclass(frozen=True, slots=True)
class _DiffSide:
    """One of the two, as it was named, with its root runs."""

    name: str
    roots: list[RunTranscript]

    def to_document(self) -> dict[str, Any]:
        runs = [run for root in self.roots for run in root.walk()]
        newest = self.roots[-1].newest_checkpoint
        return {
            "name": self.name,
            "status": newest.status,
            "text": newest.text,
            "runs": len(runs),
            **_run_statistics(runs),
        }


def _run_statistics(runs: Sequence[RunTranscript]) -> dict[str, Any]:
    began = min(run.newest_checkpoint.started_at for run in runs)
    ended = max(run.newest_checkpoint.updated_at for run in runs)
    return {
        "steps": sum(len(run.steps) for run in runs),
        "usage": total_usage(runs).model_dump(mode="json", by_alias=True),
        "durationMs": ended - began,
    }


def _report_lines(one: _DiffSide, other: _DiffSide, pairs: Sequence[RunPair]) -> Iterator[Line]:
    divergence = first_divergence(pairs)
    if divergence is None:
        yield f"{one.name} and {other.name} are the same.", "green"
    else:
        run, step = divergence
        place = f"step {step.position} of {run.expert_key}"
        yield f"{one.name} and {other.name} part at {place}.", "red"
        if step.one is None or step.other is None:
            yield f"  Only {'B' if step.one is None else 'A'} has it."
        for difference in step.differences[:MAX_DIFFERENCES]:
            yield from difference_lines(difference)
        hidden_count = len(step.differences) - MAX_DIFFERENCES
        if hidden_count > 0:
            yield f"  … and {hidden_count} more; --json has all of them", "dim"
    yield ""
    yield from table_lines([TABLE_HEADINGS, *map(_table_row, pairs)], has_numbers=False)


def _table_row(pair: RunPair) -> Sequence[str]:
    differing = pair.differing_steps
    figures = [
        ("-", "-", "-", "-", "-") if run is None else _figures(run)
        for run in (pair.one, pair.other)
    ]
    return (
        "  " * pair.depth + pair.expert_key,
        *(" / ".join(dict.fromkeys(values)) for values in zip(*figures, strict=True)),
        f"differs from step {differing[0].position}" if differing else "the same",
    )


def _figures(run: RunTranscript) -> Sequence[str]:
    newest = run.newest_checkpoint
    seconds = (newest.updated_at - newest.started_at) / 1000
    return (
        str(len(run.steps)),
        f"{newest.usage.total_tokens:,}",
        format_cost(newest.usage.cost_usd),
        f"{seconds:.1f}",
        newest.status,
    )


def _report_document(one: _DiffSide, other: _DiffSide, pairs: Sequence[RunPair]) -> dict[str, Any]:
    divergence = first_divergence(pairs)
    return {
        "isSame": divergence is None,
        "a": one.to_document(),
        "b": other.to_document(),
        "first": None
        if divergence is None
        else {"expertKey": divergence[0].expert_key, **_step_document(divergence[1])},
        "runs": [
            {
                "expertKey": pair.expert_key,
                "a": _run_document(pair.one),
                "b": _run_document(pair.other),
                "differences": [_step_document(step) for step in pair.differing_steps],
            }
            for pair in pairs
        ],
    }


def _run_document(run: RunTranscript | None) -> dict[str, Any] | None:
    if run is None:
        return None
    parent = run.newest_checkpoint.delegated_by
    return {
        "runId": run.run_id,
        "status": run.newest_checkpoint.status,
        "delegatedBy": parent.run_id if parent else None,
        **_run_statistics([run]),
    }


def _step_document(step: StepPair) -> dict[str, Any]:
    return {
        "step": step.position,
        "stepNumbers": {
            "a": step.one.number if step.one else None,
            "b": step.other.number if step.other else None,
        },
        "values": [
            {"path": each.path, "a": each.one, "b": each.other} for each in step.differences
        ],
    }
