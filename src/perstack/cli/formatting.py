"""Values as text for people."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from perstack.core.messages import Usage


def shorten(text: str, length: int) -> str:
    """The text as one line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def format_count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_usage(usage: Usage) -> str:
    cached = (
        f", {usage.cached_input_tokens:,} cached ({usage.cache_hit_rate:.0%})"
        if usage.cached_input_tokens
        else ""
    )
    cost = f", {format_cost(usage.cost_usd)}" if usage.cost_usd is not None else ""
    return (
        f"{usage.total_tokens:,} tokens ({usage.input_tokens:,} in{cached}, "
        f"{usage.output_tokens:,} out){cost}"
    )


def format_cost(usd: float | None) -> str:
    """US dollars, to the cent or, where that says nothing, to four digits."""
    if usd is None:
        return "unknown"
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}"


def local_time(at_ms: int) -> datetime:
    """A moment in the time zone of this machine."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone()


def format_timestamp(at_ms: int) -> str:
    return local_time(at_ms).isoformat(" ", timespec="seconds")


def table_lines(rows: Sequence[Sequence[str]], *, has_numbers: bool) -> Iterator[str]:
    """Rows with aligned columns: numbers, in all but the first, to the right, else to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if has_numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
