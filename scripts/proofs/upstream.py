"""What readers of perstack elsewhere rely on: events, their order and payloads, files, commands."""

import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import _upstream_commands
import _upstream_delegation
import _upstream_history
import _upstream_limits
import _upstream_tools
from _stage import ROOT, conclude, say, workplace
from _upstream_stage import Case, CaseFailedError

NAME = "upstream"
MODULES = (
    _upstream_delegation,
    _upstream_tools,
    _upstream_limits,
    _upstream_history,
    _upstream_commands,
)
TABLE = ROOT / "docs" / "upstream.md"
ROW = re.compile(r"^\| `([\w-]+)` \|(.*)\|$", re.MULTILINE)
AT_ONCE = 3


def main() -> None:
    """Try every case, then hold the table of differences against them."""
    began = time.monotonic()
    wanted = sys.argv[1:]
    cases = [each for each in all_cases() if not wanted or any(word in each[0] for word in wanted)]
    faults: list[str] = []
    with workplace() as place, ThreadPoolExecutor(AT_ONCE) as pool:
        folders = [place / str(number) for number in range(len(cases))]
        for (name, tried), fault in zip(cases, pool.map(attempt, cases, folders), strict=True):
            say(f"{'ok  ' if fault is None else 'FAIL'} {name}: {tried.sentence}")
            if fault is not None:
                say(f"     {fault}")
                faults.append(name)
    failed = len(faults)
    rows = dict(ROW.findall(TABLE.read_text(encoding="utf-8")))
    if not wanted:
        faults += table_faults(rows, [tried for _, tried in cases])
    say("\ndiffers on purpose (docs/upstream.md):")
    for row, text in rows.items():
        shown = sum(row in tried.differences for _, tried in cases)
        say(f"  {row} ({shown} cases):{text.rstrip()}")
    seconds = time.monotonic() - began
    seen = f"{len(cases) - failed} of {len(cases)} cases hold, {len(rows)} differences"
    conclude(
        NAME, holds=not faults, seen=f"{seen}, {seconds:.0f} s; {', '.join(faults) or 'none fails'}"
    )


def all_cases() -> Iterator[tuple[str, Case]]:
    """Each case with its name."""
    for module in MODULES:
        yield from cases_of(module)


def cases_of(module: ModuleType) -> Iterator[tuple[str, Case]]:
    """The cases of a module, in its order."""
    group = module.__name__.removeprefix("_upstream_")
    for name, value in vars(module).items():
        if isinstance(value, Case):
            yield f"{group}/{name.replace('_', '-')}", value


def attempt(named: tuple[str, Case], folder: Path) -> str | None:
    """Try a case; what does not hold, if anything."""
    folder.mkdir()
    try:
        named[1].check(folder)
    except CaseFailedError as fault:
        return str(fault)
    except Exception as error:  # noqa: BLE001 - a case that cannot be tried does not hold
        return f"{type(error).__name__}: {error}"
    return None


def table_faults(rows: dict[str, str], cases: list[Case]) -> list[str]:
    """Rows that no case shows, and differences that have no row."""
    shown = {row for each in cases for row in each.differences}
    faults = [f"no case shows the difference {row}" for row in rows if row not in shown]
    return faults + [f"docs/upstream.md does not tell {row}" for row in shown if row not in rows]


if __name__ == "__main__":
    main()
