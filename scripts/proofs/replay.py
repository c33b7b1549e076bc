"""Jobs of the tests, killed jobs and jobs with rough lives come again as they are stored."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
from _kill_drive import Point
from _kill_job import JOB_ID
from _kill_stage import WORKERS, Jobs, jobs
from _stage import PERSTACK, ROOT, conclude, plain_environment, say, workplace
from kill_matrix import PLACES, counted, sampled

from perstack.core.events import RunEvent
from perstack.definition.loader import load_definitions
from perstack.replay.runner import replay
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.replay.rough import rough_job

SUITE = ("engine", "runtime", "replay", "cli", "faces", "server", "telemetry", "test_library.py")
NUMBERS = "PERSTACK_REPLAY_NUMBERS"
DEFINITIONS = """
[provider]
providerName = "scripted"

[provider.setting]
script = "script.json"

[experts."lead"]
instruction = "Lead."
delegates = ["@lead/scout"]

[experts."@lead/scout"]
description = "Looks around."
instruction = "Look around."
"""
SCRIPT = {
    "experts": {
        "lead": [
            {"toolCalls": [{"name": "todo", "args": {"newTodos": ["look"]}}]},
            {"toolCalls": [{"name": "scout", "args": {"query": "What is there?"}}]},
            {"text": "Nothing is there."},
        ],
        "@lead/scout": [{"text": "Nothing."}],
    }
}


def of_the_tests(folders: tuple[str, ...]) -> tuple[bool, str]:
    """Run the tests with the plugin that replays what they make."""
    with workplace() as folder:
        numbers = folder / "numbers"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.replaying", "--tb=short"]
        command += [f"tests/{name}" for name in folders]
        environment = {**os.environ, NUMBERS: str(numbers)}
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        told = numbers.read_text(encoding="utf-8") if numbers.exists() else "nothing"
    if ended.returncode != 0:  # a test of something else that fails says nothing of replays
        say(ended.stdout[-4000:])
    return " 0 not identical" in told and not told.startswith("replayed 0 "), f"tests {told}"


def with_rough_lives(count: int) -> tuple[bool, str]:
    """Make jobs by lot, with cancellations, crashes, branches and forks, and replay each."""
    right, seen = 0, Counter[str]()
    for seed in range(count):
        with tempfile.TemporaryDirectory() as folder:
            job = anyio.run(rough_job, seed, Path(folder))
        found = anyio.run(replay, job.events, job.definitions)
        right += found.is_identical
        seen.update(event.type for event in job.events)
        if not found.is_identical:
            say(f"  WRONG with lot {seed}: {found.divergence}")
    told = f"{right} of {count} rough jobs identical, {seen.total()} events of {len(seen)} types"
    return right == count, told


def killed_and_replayed(stage: Jobs, point: Point) -> str:
    """Kill a job, go on with it in another process and replay it; what went wrong, if anything."""
    order = replace(stage.order(), point=point, signal=int(signal.SIGKILL))
    stage.endpoint.orders[order.key] = order
    stage.run(order)
    del stage.endpoint.orders[order.key]
    stage.run(replace(order, point=None))
    folder = Path(order.folder)
    events = anyio.run(_stored, folder, JOB_ID)
    found = anyio.run(replay, events, load_definitions(folder / "perstack.toml").definitions)
    if events[-1].type != "completeRun":
        return f"{point} ended with {events[-1].type}"
    return "" if found.is_identical else f"{point}: {found.divergence}"


def killed_jobs(sample: int) -> tuple[bool, str]:
    """Kill a job of 20 steps and four experts at points of all kinds."""
    with jobs() as stage:
        counts = counted(stage)
        places = [place for place in PLACES if place not in ("acting", "acted")]
        points = [Point(place, number + 1) for place in places for number in range(counts[place])]
        chosen = sampled(points, sample)
        with ThreadPoolExecutor(WORKERS) as pool:
            faults = list(pool.map(partial(killed_and_replayed, stage), chosen))
    for fault in filter(None, faults):
        say(f"  WRONG: {fault}")
    right = sum(not fault for fault in faults)
    return right == len(chosen), f"{right} of {len(chosen)} killed jobs identical"


def changed_instruction() -> tuple[bool, str]:
    """Change the instruction of a delegate: both commands name its first step."""
    with workplace() as folder:
        config = folder / "perstack.toml"
        config.write_text(DEFINITIONS, encoding="utf-8")
        (folder / "script.json").write_text(json.dumps(SCRIPT), encoding="utf-8")
        for job_id in ("before", "after"):
            _perstack(folder, "run", "lead", "Look.", "--job-id", job_id)
            config.write_text(DEFINITIONS.replace('around."\n', 'closely."\n'), encoding="utf-8")
        found = json.loads(_perstack(folder, "diff", "before", "after", "--json"))["first"]
        again = json.loads(_perstack(folder, "replay", "before", "--json"))["divergence"]
    place = (found["expertKey"], found["stepNumbers"], found["values"][0]["path"])
    holds = place == ("@lead/scout", {"a": 3, "b": 3}, "instruction.0")
    holds &= (again["expertKey"], again["stepNumber"]) == ("@lead/scout", 3)
    return holds, f"changed instruction found at step {found['stepNumbers']['b']}"


def _perstack(folder: Path, *words: str) -> str:
    environment = plain_environment()
    return subprocess.run(
        [*PERSTACK, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    ).stdout


async def _stored(folder: Path, job_id: str) -> tuple[RunEvent, ...]:
    async with open_sqlite_store(store_path(folder)) as store:
        _, events = await store.events(job_id)
    return events


def main() -> None:
    """Replay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rough", type=int, default=300, help="so many jobs by lot")
    parser.add_argument("--kills", type=int, default=24, help="so many killed jobs")
    parser.add_argument(
        "--suite", nargs="*", default=SUITE, help="folders of the tests; none leaves them out"
    )
    options = parser.parse_args()
    parts = [
        changed_instruction,
        partial(with_rough_lives, options.rough),
        partial(killed_jobs, options.kills),
        *([partial(of_the_tests, tuple(options.suite))] if options.suite else []),
    ]
    results: list[tuple[bool, str]] = []
    for part in parts:
        results.append(part())
        say(f"  {results[-1][1]}")
    holds = all(holds for holds, _ in results)
    conclude("replay", holds=holds, seen="; ".join(seen for _, seen in results))


if __name__ == "__main__":
    main()
