"""`python -m benchmarks [NAME …] [--json FILE]`: measure, and print the figures."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import concurrency, first_request, ready, resume, step, storage, stream
from benchmarks.stage import Row

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "ready": ready.measure,
    "first_request": first_request.measure,
    "step": step.measure,
    "stream": stream.measure,
    "storage": storage.measure,
    "concurrency": concurrency.measure,
    "resume": resume.measure,
}


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run what is named, or all of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    say(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}")
    figures: dict[str, Any] = {}
    for name in options.names or BENCHMARKS:
        before = os.getloadavg()[0]
        rows = BENCHMARKS[name]()
        say(f"\n{name} (load {before:.1f} before, {os.getloadavg()[0]:.1f} after)")
        for row in rows:
            say(f"  {row}")
        figures[name] = [row.as_json() for row in rows]
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
