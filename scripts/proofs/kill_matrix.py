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

COMMITS = ("entering", "committing", "writing", "written")
"""How often a job passes these depends on timing: events of two delegates that are ready at the
same moment share a commit. On a busy machine the last of the counted points may not occur."""

ATTEMPTS = 3
"""How often a point that did not occur is tried again."""


@dataclass(frozen=True)
class Outcome:
    """One job, the point at which it was killed, and the result.

    `has_occurred` is false if the job completed without passing the point.
    """

    point: Point
    findings: Findings
    has_occurred: bool = True


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
    """Kill a job at a point and continue it elsewhere; again if the point did not occur."""
    outcome = _killed_once(stage, point, number)
    for _ in range(ATTEMPTS - 1):
        if outcome.has_occurred or outcome.findings.faults:
            break
        outcome = _killed_once(stage, point, number)
    return outcome


def _killed_once(stage: Jobs, point: Point, number: int) -> Outcome:
    order = replace(stage.order(), point=point, signal=number)
    stage.endpoint.orders[order.key] = order
    order_file = Path(order.folder) / "order.json"
    if point.place in ("acting", "acted"):
        fields = {"place": point.place, "number": point.number, "signal": number}
        order_file.write_text(json.dumps(fields), encoding="utf-8")
    code = stage.run(order)
    order_file.unlink(missing_ok=True)
    del stage.endpoint.orders[order.key]
    has_occurred = not _has_passed_fewer(Path(order.folder), point)
    again = stage.run(replace(order, point=None))
    wrong: list[str] = []
    if code != (-signal.SIGKILL if number == signal.SIGKILL and has_occurred else 0):
        wrong.append(f"the process ended with {code}")
    if again != 0:
        wrong.append(f"the process that continued the job ended with {again}")
    found = stage.findings(order)
    return Outcome(point, replace(found, faults=(*wrong, *found.faults)), has_occurred)


def _has_passed_fewer(folder: Path, point: Point) -> bool:
    """Whether the process ended by itself and its job has fewer commits than the point asks for."""
    counts = folder / "counts.json"
    if point.place not in COMMITS or not counts.exists():
        return False
    passed: dict[str, int] = json.loads(counts.read_text(encoding="utf-8"))
    return passed.get(point.place, 0) < point.number


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
    if missed := sum(not outcome.has_occurred for outcome in outcomes):
        say(f"  {missed} points did not occur: events of two delegates shared a commit")
    repeats = Counter(outcome.findings.repeated for outcome in outcomes)
    for times, jobs_so in sorted(repeats.items()):
        say(f"  {jobs_so:4} kills repeated {times} requests{' of two delegates' * (times > 1)}")
    for outcome in outcomes:
        for fault in outcome.findings.faults:
            say(f"  WRONG at {outcome.point.place} {outcome.point.number}: {fault}")
    return not any(outcome.findings.faults for outcome in outcomes)


def kill_everywhere(stage: Jobs, options: argparse.Namespace) -> tuple[bool, str]:
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
        occurred = [outcome for outcome in outcomes if outcome.has_occurred]
        right = sum(not outcome.findings.faults for outcome in occurred)
        seen.append(f"{right} of {len(occurred)} jobs ended right after {name}")
        if number == signal.SIGKILL and options.sample is None and options.place is None:
            holds &= len(occurred) >= FEWEST_POINTS
    return holds, ", ".join(seen)


def main() -> None:
    """Kill, go on, look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="so many points of each signal only")
    parser.add_argument("--place", choices=PLACES, help="the points of one kind only")
    options = parser.parse_args(sys.argv[1:])
    began = time.monotonic()
    with jobs() as stage:
        holds, seen = kill_everywhere(stage, options)
    took = time.monotonic() - began
    conclude("kill-matrix", holds=holds, seen=f"{seen}, in {took:.0f} s")


if __name__ == "__main__":
    main()
