"""What is stored for n steps, against the messages themselves: the body of the last request."""

import math
from pathlib import Path

from benchmarks.stage import Row, figure, model, order, perform, workplace

LENGTHS = (25, 50, 100, 200, 400)
LIMIT = 2.0


def bytes_in(folder: Path) -> int:
    """What perstack has written in a workspace."""
    files = (path for path in (folder / "perstack").rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)


def measure() -> list[Row]:
    """One job of each length, each in a workspace of its own."""
    rows: list[Row] = []
    sizes: list[int] = []
    with model() as served_by:
        for steps in LENGTHS:
            with workplace() as folder:
                query = order(f"storage-{steps}", steps=steps)
                requests = [{"expert_key": "worker", "query": query}]
                perform("product", folder, served_by, requests=requests)
                sizes.append(bytes_in(folder))
            messages = served_by.times(f"storage-{steps}")[-1][2]
            kib = figure([sizes[-1] / 1024])
            # A database has a size before it holds anything, which short jobs must not be held to.
            limit = LIMIT if steps >= LENGTHS[2] else None
            rows.append(Row(f"{steps} steps", "KiB", kib, sizes[-1] / messages, limit))
    growth = math.log(sizes[-1] / sizes[0]) / math.log(LENGTHS[-1] / LENGTHS[0])
    rows.append(Row("growth, exponent (1 is linear)", "", figure([growth])))
    return rows
