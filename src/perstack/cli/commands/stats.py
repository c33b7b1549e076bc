"""`perstack stats`: what the jobs of a workspace add up to."""

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio

from perstack.analysis.statistics import GroupedStats, Stats, quantile
from perstack.cli.args import add_json_argument, add_store_arguments, positive_int
from perstack.cli.formatting import format_cost, format_timestamp, local_time, table_lines
from perstack.cli.job_log import find_store
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.core.checkpoint import FINISHED_STATUSES
from perstack.runtime.ports import SystemClock
from perstack.stores import open_store, sqlite_url

DAY_MS = 24 * 60 * 60 * 1000
Json = dict[str, Any]
Name = TypeVar("Name", bound=str)

GROUP_HEADINGS = (
    *("jobs", "runs", "completed", "steps", "tokens", "cached", "cost", "retries", "errors"),
    *("tool calls", "failed", "median", "p95"),
)
TOOL_HEADINGS = ("tool", "calls", "failed")


def add_arguments(parser: ArgumentParser) -> None:
    add_store_arguments(parser)
    parser.add_argument(
        "--since",
        type=positive_int,
        metavar="DAYS",
        help="only jobs that began in the last so many",
    )
    parser.add_argument(
        "--by", choices=("expert", "model", "day"), help="a line for each, instead of for each tool"
    )
    add_json_argument(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    storage = find_store(options)
    days: int | None = options.since
    since_ms = None if days is None else SystemClock().now_ms() - days * DAY_MS
    grouped_stats = anyio.run(_read_stats, storage, since_ms)
    report = StatsReport(
        storage=storage, since_ms=since_ms, grouped_stats=grouped_stats, by=options.by
    )
    print_stats(report, terminal, is_json=options.json)
    return EXIT_SUCCESS


async def _read_stats(storage: Path, since_ms: int | None) -> GroupedStats:
    grouped_stats = GroupedStats(lambda at_ms: local_time(at_ms).date().isoformat())
    async with open_store(sqlite_url(storage)) as store:
        await store.scan_jobs(since_ms or 0, grouped_stats.add)
    return grouped_stats


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsReport:
    """The figures of a store.

    Attributes:
        storage: Its file.
        since_ms: Only jobs that began then or later; all if `None`.
        grouped_stats: The figures.
        by: Which groups are asked for; all if `None`.
    """

    storage: Path
    since_ms: int | None
    grouped_stats: GroupedStats
    by: str | None

    def sorted_groups(self, by: str) -> list[tuple[str, Stats]]:
        """Days in their order; what else there is by tokens, the most first."""
        groups = self.grouped_stats.groups[by].items()
        if by == "day":
            return sorted(groups, key=lambda group: group[0])
        return sorted(groups, key=lambda group: (-group[1].usage.total_tokens, group[0]))


def print_stats(report: StatsReport, terminal: Terminal, *, is_json: bool) -> None:
    if is_json:
        terminal.write_json(_report_document(report), indent=None)
        return
    terminal.write_line(f"Storage: {report.storage}")
    if report.since_ms is not None:
        terminal.write_line(f"Since: {format_timestamp(report.since_ms)}")
    terminal.write_line()
    terminal.write_lines(_total_lines(report.grouped_stats.total))
    head, *rows = table_lines(_table(report), has_numbers=True)
    if rows:
        terminal.write_lines(("", (head, "bold"), *rows))


def _total_lines(total: Stats) -> Iterator[str]:
    usage = total.usage
    yield f"jobs         {_format_counts(total.jobs, with_shares=True)}"
    ended = _ended_jobs(total)
    if ended:
        completed = _format_percentage(total.jobs["completed"], ended)
        yield f"succeeded    {completed} of {ended:,} that have ended"
    yield f"runs         {_format_counts(total.runs)}"
    yield f"steps        {total.steps:,}"
    yield (
        f"tokens       {usage.total_tokens:,} ({usage.input_tokens:,} in, of these "
        f"{usage.cached_input_tokens:,} cached, {usage.cache_hit_rate:.0%}; "
        f"{usage.output_tokens:,} out, of these "
        f"{usage.reasoning_tokens:,} reasoning)"
    )
    yield f"cost         {_format_cost(total)}"
    yield f"retries      {_format_counts(total.retries)}"
    yield f"errors       {_format_counts(total.errors)}"
    durations = {"job": total.job_ms, "generation": total.generation_ms, "tool": total.tool_ms}
    for name, values in durations.items():
        if values:
            median, p95 = _format_quantile(values, 0.5), _format_quantile(values, 0.95)
            yield f"{name:<12} median {median}, p95 {p95}"


def _format_cost(stats: Stats) -> str:
    """US dollars, as far as prices are known."""
    if not stats.unpriced_tokens:
        return format_cost(stats.known_cost_usd)
    if not stats.known_cost_usd:
        return "unknown"
    return (
        f"at least {format_cost(stats.known_cost_usd)}; "
        f"the price of {stats.unpriced_tokens:,} tokens is not known"
    )


def _table(report: StatsReport) -> list[Sequence[str]]:
    """The tools of all jobs, or the requested groups, below their headings."""
    if report.by is not None:
        rows = [(key, *_group_figures(stats)) for key, stats in report.sorted_groups(report.by)]
        return [(report.by, *GROUP_HEADINGS), *rows]
    total = report.grouped_stats.total
    failures = total.tool_failures
    tools = [
        (f"{skill} {tool}", f"{calls:,}", _format_percentage(failures[skill, tool], calls))
        for (skill, tool), calls in total.tool_calls.most_common()
    ]
    return [TOOL_HEADINGS, *tools]


def _group_figures(stats: Stats) -> Sequence[str]:
    usage, runs, calls = stats.usage, stats.runs.total(), stats.tool_calls.total()
    return (
        f"{stats.jobs.total():,}",
        f"{runs:,}",
        _format_percentage(stats.runs["completed"], runs),
        f"{stats.steps:,}",
        f"{usage.total_tokens:,}",
        _format_percentage(usage.cached_input_tokens, usage.input_tokens),
        format_cost(usage.cost_usd if usage.total_tokens else 0.0),
        f"{stats.retries.total():,}",
        f"{stats.errors.total():,}",
        f"{calls:,}",
        _format_percentage(stats.tool_failures.total(), calls),
        _format_quantile(stats.generation_ms, 0.5),
        _format_quantile(stats.generation_ms, 0.95),
    )


def _format_counts(counts: Counter[Name], *, with_shares: bool = False) -> str:
    """A sum with its parts, the largest first."""
    total = counts.total()
    parts = [
        f"{name} {count:,}" + (f" ({_format_percentage(count, total)})" if with_shares else "")
        for name, count in counts.most_common()
    ]
    return f"{total:,}: {', '.join(parts)}" if parts else "0"


def _format_percentage(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _format_quantile(values: Iterable[int], fraction: float) -> str:
    milliseconds = quantile(values, fraction)
    if milliseconds is None:
        return "-"
    seconds, minutes = milliseconds // 1000, milliseconds // 60_000
    if not seconds:
        return f"{milliseconds} ms"
    if not minutes:
        return f"{milliseconds / 1000:.1f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02} min" if hours else f"{minutes} min {seconds % 60:02} s"


def _report_document(report: StatsReport) -> Json:
    groups = report.grouped_stats.groups if report.by is None else [report.by]
    return {
        "storagePath": str(report.storage),
        **({} if report.since_ms is None else {"since": report.since_ms}),
        "total": _stats_document(report.grouped_stats.total),
        "groups": {
            by: [{"key": key, **_stats_document(stats)} for key, stats in report.sorted_groups(by)]
            for by in groups
        },
    }


def _stats_document(stats: Stats) -> Json:
    ended = _ended_jobs(stats)
    return {
        "jobs": {
            "total": stats.jobs.total(),
            "byStatus": dict(stats.jobs),
            "ended": ended,
            "successRate": _rate(stats.jobs["completed"], ended),
        },
        "runs": {"total": stats.runs.total(), "byStatus": dict(stats.runs)},
        "steps": stats.steps,
        "usage": stats.usage.model_dump(mode="json", by_alias=True),
        "knownCostUsd": round(stats.known_cost_usd, 9),
        "unpricedTokens": stats.unpriced_tokens,
        "retries": {"total": stats.retries.total(), "byName": dict(stats.retries)},
        "errors": {"total": stats.errors.total(), "byName": dict(stats.errors)},
        "tools": [
            {
                "skillName": skill,
                "toolName": tool,
                "calls": calls,
                "failures": stats.tool_failures[skill, tool],
                "failureRate": _rate(stats.tool_failures[skill, tool], calls),
            }
            for (skill, tool), calls in stats.tool_calls.most_common()
        ],
        "jobMs": _quantiles_document(stats.job_ms),
        "generationMs": _quantiles_document(stats.generation_ms),
        "toolMs": _quantiles_document(stats.tool_ms),
    }


def _quantiles_document(values: Sequence[int]) -> Json:
    return {"count": len(values), "median": quantile(values, 0.5), "p95": quantile(values, 0.95)}


def _ended_jobs(stats: Stats) -> int:
    return sum(count for status, count in stats.jobs.items() if status in FINISHED_STATUSES)


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
