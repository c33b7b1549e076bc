"""What jobs add up to, as tables for people and as JSON."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from perstack.cli.output import Terminal
from perstack.cli.story import date
from perstack.core.figures import Figures, Survey, quantile

Json = dict[str, Any]
Name = TypeVar("Name", bound=str)

UNENDED = ("running", "interrupted", "stoppedByInteractiveTool")
"""Statuses of jobs that may still become a success."""

GROUP_HEADINGS = (
    *("jobs", "runs", "completed", "steps", "tokens", "cached", "retries", "errors"),
    *("tool calls", "failed", "median", "p95"),
)
TOOL_HEADINGS = ("tool", "calls", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The figures of a store.

    Attributes:
        storage: Its file.
        since_ms: Only jobs that began then or later; all if `None`.
        survey: The figures.
        by: Which groups are asked for; all if `None`.
    """

    storage: Path
    since_ms: int | None
    survey: Survey
    by: str | None

    def groups(self, by: str) -> list[tuple[str, Figures]]:
        """Days in their order; what else there is by tokens, the most first."""
        found = self.survey.groups[by].items()
        if by == "day":
            return sorted(found, key=lambda group: group[0])
        return sorted(found, key=lambda group: (-group[1].usage.total_tokens, group[0]))


def show(statistics: Statistics, terminal: Terminal, *, is_json: bool) -> None:
    """Write the figures."""
    if is_json:
        terminal.line(json.dumps(_document(statistics), ensure_ascii=False))
        return
    terminal.line(f"Storage: {statistics.storage}")
    if statistics.since_ms is not None:
        terminal.line(f"Since: {date(statistics.since_ms)}")
    terminal.line()
    for line in _total(statistics.survey.total):
        terminal.line(line)
    table = _tools(statistics.survey.total) if statistics.by is None else _groups(statistics)
    if len(table) > 1:
        terminal.line()
        head, *rows = _aligned(table)
        terminal.line(head, "bold")
        for row in rows:
            terminal.line(row)


def _total(total: Figures) -> Iterator[str]:
    usage = total.usage
    yield f"jobs         {_counted(total.jobs, with_shares=True)}"
    ended = _ended(total)
    if ended:
        yield f"succeeded    {_share(total.jobs['completed'], ended)} of {ended:,} that have ended"
    yield f"runs         {_counted(total.runs)}"
    yield f"steps        {total.steps:,}"
    yield (
        f"tokens       {usage.total_tokens:,} ({usage.input_tokens:,} in, of these "
        f"{usage.cached_input_tokens:,} cached; {usage.output_tokens:,} out, of these "
        f"{usage.reasoning_tokens:,} reasoning)"
    )
    yield f"retries      {_counted(total.retries)}"
    yield f"errors       {_counted(total.errors)}"
    durations = (
        ("job", total.job_ms),
        ("generation", total.generation_ms),
        ("tool", total.tool_ms),
    )
    for name, row in durations:
        if row:
            yield f"{name:<12} median {_duration(row, 0.5)}, p95 {_duration(row, 0.95)}"


def _tools(total: Figures) -> list[Sequence[str]]:
    rows = [
        (f"{skill} {tool}", f"{calls:,}", _share(total.tool_failures[skill, tool], calls))
        for (skill, tool), calls in total.tool_calls.most_common()
    ]
    return [TOOL_HEADINGS, *rows]


def _groups(statistics: Statistics) -> list[Sequence[str]]:
    by = statistics.by or "expert"
    return [
        (by, *GROUP_HEADINGS),
        *((key, *_group(figures)) for key, figures in statistics.groups(by)),
    ]


def _group(figures: Figures) -> Sequence[str]:
    usage, runs, calls = figures.usage, figures.runs.total(), figures.tool_calls.total()
    return (
        f"{figures.jobs.total():,}",
        f"{runs:,}",
        _share(figures.runs["completed"], runs),
        f"{figures.steps:,}",
        f"{usage.total_tokens:,}",
        _share(usage.cached_input_tokens, usage.input_tokens),
        f"{figures.retries.total():,}",
        f"{figures.errors.total():,}",
        f"{calls:,}",
        _share(figures.tool_failures.total(), calls),
        _duration(figures.generation_ms, 0.5),
        _duration(figures.generation_ms, 0.95),
    )


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        cells = [
            first.ljust(widths[0]),
            *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True)),
        ]
        yield "  ".join(cells).rstrip()


def _counted(counts: Counter[Name], *, with_shares: bool = False) -> str:
    """A sum with its parts, the largest first."""
    total = counts.total()
    parts = [
        f"{name} {count:,}" + (f" ({_share(count, total)})" if with_shares else "")
        for name, count in counts.most_common()
    ]
    return f"{total:,}: {', '.join(parts)}" if parts else "0"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _duration(row: Iterable[int], share: float) -> str:
    found = quantile(row, share)
    if found is None:
        return "-"
    return _time(found)


def _time(milliseconds: int) -> str:
    seconds, minutes = milliseconds // 1000, milliseconds // 60_000
    if not seconds:
        return f"{milliseconds} ms"
    if not minutes:
        return f"{milliseconds / 1000:.1f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02} min" if hours else f"{minutes} min {seconds % 60:02} s"


def _document(statistics: Statistics) -> Json:
    groups = statistics.survey.groups if statistics.by is None else [statistics.by]
    return {
        "storagePath": str(statistics.storage),
        **({} if statistics.since_ms is None else {"since": statistics.since_ms}),
        "total": _figures(statistics.survey.total),
        "groups": {
            by: [{"key": key, **_figures(figures)} for key, figures in statistics.groups(by)]
            for by in groups
        },
    }


def _figures(figures: Figures) -> Json:
    ended = _ended(figures)
    return {
        "jobs": {
            "total": figures.jobs.total(),
            "byStatus": dict(figures.jobs),
            "ended": ended,
            "successRate": _rate(figures.jobs["completed"], ended),
        },
        "runs": {"total": figures.runs.total(), "byStatus": dict(figures.runs)},
        "steps": figures.steps,
        "usage": figures.usage.model_dump(mode="json", by_alias=True),
        "retries": {"total": figures.retries.total(), "byName": dict(figures.retries)},
        "errors": {"total": figures.errors.total(), "byName": dict(figures.errors)},
        "tools": [
            {
                "skillName": skill,
                "toolName": tool,
                "calls": calls,
                "failures": figures.tool_failures[skill, tool],
                "failureRate": _rate(figures.tool_failures[skill, tool], calls),
            }
            for (skill, tool), calls in figures.tool_calls.most_common()
        ],
        "jobMs": _quantiles(figures.job_ms),
        "generationMs": _quantiles(figures.generation_ms),
        "toolMs": _quantiles(figures.tool_ms),
    }


def _quantiles(row: Sequence[int]) -> Json:
    return {"count": len(row), "median": quantile(row, 0.5), "p95": quantile(row, 0.95)}


def _ended(figures: Figures) -> int:
    return sum(count for status, count in figures.jobs.items() if status not in UNENDED)


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
