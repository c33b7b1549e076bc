"""From the start of `perstack run` to the first request to the model, against bare Python.

The opponent imports what any agent needs, the MCP SDK and an HTTP client, and asks.
"""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.stage import Model, Row, figure, model, order, surroundings, workplace

ROUNDS = 11
LIMIT = 1.3
BARE = """
import asyncio, os, sys
import aiohttp, mcp

async def main():
    address = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    async with aiohttp.ClientSession() as session:
        async with session.post(address, json={"messages": [{"content": sys.argv[1]}]}) as response:
            await response.read()

asyncio.run(main())
"""
RUN = [sys.executable, "-m", "perstack", "run"]
FLOOR = "bare Python with the MCP SDK and aiohttp"
OURS = "perstack run"
PROGRAMS = {
    FLOOR: [sys.executable, "-c", BARE],
    OURS: [*RUN, "reader"],
    # Its first request comes after the start of a server, of which the opponent has none.
    "perstack run with a skill server": [*RUN, "worker"],
}


def milliseconds_to_model(command: list[str], run: str, folder: Path, served_by: Model) -> float:
    """From the start of a process to the whole of its first request."""
    asked_before = len(served_by.times(run))
    started = time.monotonic()
    finished = subprocess.run(
        [*command, f"{order(run, steps=0)} chunks=1"],
        cwd=folder,
        env=surroundings(served_by),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"{command} failed: {finished.stderr}")
    return (served_by.times(run)[asked_before][0] - started) * 1000


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Both in turn, after one start of each that fills the caches of the disk."""
    seen: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with model() as served_by, workplace() as folder:
        for round_number in range(rounds + 1):
            for position, (name, command) in enumerate(PROGRAMS.items()):
                took = milliseconds_to_model(command, f"first-{position}", folder, served_by)
                if round_number:
                    seen[name].append(took)
    figures = {name: figure(times) for name, times in seen.items()}
    floor = figures.pop(FLOOR)
    rows = [Row(f"first request: {FLOOR}", "ms", floor)]
    for name, times in figures.items():
        limit = LIMIT if name == OURS else None
        rows.append(Row(f"first request: {name}", "ms", times, times.middle / floor.middle, limit))
    return rows
