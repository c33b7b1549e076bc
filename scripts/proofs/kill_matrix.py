"""Kill a job of 20 steps and four experts at every point, go on: all done once, or in doubt."""

import argparse
import json
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from _kill_drive import Point
from _kill_job import STEPS
from _kill_stage import WORKERS, Findings, Jobs, jobs
from _stage import conclude, say

FEWEST_POINTS = 300
EVERY = {signal.SIGKILL: 1, signal.SIGTERM: 5}
"""A SIGKILL at every point, a SIGTERM at every fifth."""

PLACES = (
    "entering",
    "committing",
    "writing",
    "written",
    "asking",
    "asked",
    "answered",
    "calling",
    "acting",
    "acted",
    "called",
)
"""In a transaction before each event and before its commit; before and after each commit; before a
request, when it has arrived, and after its answer; before a tool call, when it has arrived, when it
has had its effect, and after its result."""


@dataclass(frozen=True)
class Outcome:
    """One job, where it was killed, and what became of it."""

    point: Point
    findings: Findings


def counted(stage: Jobs) -> Counter[str]:
    """How often a job comes to each place if nobody kills it."""
    order = stage.order()
    stage.run(order)
    counts = json.loads((Path(order.folder) / "counts.json").read_text(encoding="utf-8"))
    faults = stage.findings(order).faults
    if faults or counts["asking"] != STEPS:
        raise RuntimeError(f"undisturbed, the job goes wrong: {faults}, {counts}")
    requests, calls = len(stage.endpoint.asked[order.key]), counts["calling"]
    return Counter({**counts, "asked": requests, "acting": calls, "acted": calls})


def killed(stage: Jobs, point: Point, number: int) -> Outcome:
    """Kill a job at a point, go on with it in another process, and look at what is there."""
    order = replace(stage.order(), point=point, signal=number)
    stage.endpoint.orders[order.key] = order
    place = Path(order.folder) / "order.json"
    if point.place in ("acting", "acted"):
        told = {"place": point.place, "number": point.number, "signal": number}
        place.write_text(json.dumps(told), encoding="utf-8")
    code = stage.run(order)
    place.unlink(missing_ok=True)
    del stage.endpoint.orders[order.key]
    again = stage.run(replace(order, point=None))
    wrong: list[str] = []
    if code != (-signal.SIGKILL if number == signal.SIGKILL else 0):
        wrong.append(f"the process ended with {code}")
    if again != 0:
        wrong.append(f"the process that went on ended with {again}")
    found = stage.findings(order)
    return Outcome(point, replace(found, faults=(*wrong, *found.faults)))


def sampled(points: Sequence[Point], wanted: int) -> list[Point]:
    """So many of the points, evenly spread."""
    if wanted >= len(points):
        return list(points)
    return [points[number * len(points) // wanted] for number in range(wanted)]


def report(title: str, outcomes: Sequence[Outcome]) -> bool:
    """Say what came of the kills; whether everything holds."""
    by_place: defaultdict[str, list[Findings]] = defaultdict(list)
    for outcome in outcomes:
        by_place[outcome.point.place].append(outcome.findings)
    say(f"{title}: {len(outcomes)} points")
    for place, found in by_place.items():
        right = sum(not one.faults for one in found)
        repeated, doubts = sum(one.repeated for one in found), sum(one.doubts for one in found)
        say(
            f"  {place:<11} {len(found):4} points, {right:4} right, {repeated:3} requests repeated,"
            f" {doubts:3} calls reported in doubt"
        )
    repeats = Counter(outcome.findings.repeated for outcome in outcomes)
    for times, jobs_so in sorted(repeats.items()):
        say(f"  {jobs_so:4} kills repeated {times} requests{' of two delegates' * (times > 1)}")
    for outcome in outcomes:
        for fault in outcome.findings.faults:
            say(f"  WRONG at {outcome.point.place} {outcome.point.number}: {fault}")
    return not any(outcome.findings.faults for outcome in outcomes)


def survey(stage: Jobs, options: argparse.Namespace) -> tuple[bool, str]:
    """Kill at all points, or at a sample of them."""
    counts = counted(stage)
    points = [
        Point(place, number)
        for place in PLACES
        for number in range(1, counts[place] + 1)
        if options.place in (None, place)
    ]
    holds, seen = True, list[str]()
    for number, one_in in EVERY.items():
        wanted = options.sample or -(-len(points) // one_in)
        chosen = sampled(points, wanted)
        strike: Callable[[Point], Outcome] = partial(killed, stage, number=number)
        with ThreadPoolExecutor(WORKERS) as pool:
            outcomes = list(pool.map(strike, chosen))
        name = signal.Signals(number).name
        holds &= report(name, outcomes)
        right = sum(not outcome.findings.faults for outcome in outcomes)
        seen.append(f"{right} of {len(chosen)} jobs ended right after {name}")
    is_whole = options.sample is None and options.place is None
    return holds and (not is_whole or len(points) >= FEWEST_POINTS), ", ".join(seen)


def main() -> None:
    """Kill, go on, look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="so many points of each signal only")
    parser.add_argument("--place", choices=PLACES, help="the points of one kind only")
    options = parser.parse_args(sys.argv[1:])
    began = time.monotonic()
    with jobs() as stage:
        holds, seen = survey(stage, options)
    took = time.monotonic() - began
    conclude("kill-matrix", holds=holds, seen=f"{seen}, in {took:.0f} s")


if __name__ == "__main__":
    main()
