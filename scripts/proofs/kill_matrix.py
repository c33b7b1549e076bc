"""Kill a job of 20 steps and four experts at every point, go on: all done once, or in doubt."""

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import anyio
from _kill_drive import Order, Point
from _kill_job import ANSWER, JOB_ID, STEPS, TOML, effects, place_of, script
from _kill_worker import Worker
from _stage import conclude, say, workplace

from perstack.core.events import RecordToolResult
from perstack.core.history import newest_checkpoints, newest_root
from perstack.runtime.ports import JobRecord
from perstack.store.sqlite import open_sqlite_store, store_path
from tests.model_server import ModelServer, Request

WORKERS = 2
FEWEST_POINTS = 300
EVERY = {signal.SIGKILL: 1, signal.SIGTERM: 5}
"""A SIGKILL at every point, a SIGTERM at every fifth."""


@dataclass
class Endpoint:
    """What each job asked of the model, and whom to kill for asking."""

    asked: defaultdict[str, list[tuple[str, int]]] = field(
        default_factory=lambda: defaultdict[str, list[tuple[str, int]]](list)
    )
    orders: dict[str, Order] = field(default_factory=dict[str, Order])

    def heard(self, request: Request) -> None:
        """Note a request; its process ends here if that is its point."""
        key = request.headers["authorization"].removeprefix("Bearer ")
        self.asked[key].append(place_of(request))
        order = self.orders.get(key)
        if order is not None and order.point == Point("asked", len(self.asked[key])):
            pid = (Path(order.folder) / "pid").read_text(encoding="utf-8")
            os.kill(int(pid), order.signal)


@dataclass(frozen=True)
class Outcome:
    """One killed job.

    Attributes:
        point: Where it was killed.
        repeated: Requests that the model was asked twice.
        doubts: Calls that were reported as of unknown effect.
        faults: What should not be.
    """

    point: Point
    repeated: int
    doubts: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """Where jobs are killed.

    Attributes:
        workers: The processes that fork others.
        endpoint: Hears every request.
        url: Where the endpoint is.
        home: Holds a folder for each job.
        numbers: Names them.
    """

    workers: "SimpleQueue[Worker]"
    endpoint: Endpoint
    url: str
    home: Path
    numbers: "count[int]" = field(default_factory=count)

    def undisturbed(self) -> Counter[str]:
        """How often a job comes to each place if nobody kills it."""
        order = self._order()
        self._run(order)
        counts = json.loads((Path(order.folder) / "counts.json").read_text(encoding="utf-8"))
        faults = self._check(order, Point("nowhere", 0)).faults
        if faults:
            raise RuntimeError(f"undisturbed, the job goes wrong: {faults} in {order.folder}")
        calls = counts["calling"]
        return Counter(
            {
                **counts,
                "asked": len(self.endpoint.asked[order.key]),
                "acting": calls,
                "acted": calls,
            }
        )

    def killed(self, point: Point, number: int) -> Outcome:
        """Kill a job at a point, go on with it in another process, and look at what is there."""
        order = replace(self._order(), point=point, signal=number)
        self.endpoint.orders[order.key] = order
        place = Path(order.folder) / "order.json"
        if point.place in ("acting", "acted"):
            place.write_text(
                json.dumps({"place": point.place, "number": point.number, "signal": number}),
                encoding="utf-8",
            )
        code = self._run(order)
        wanted = -signal.SIGKILL if number == signal.SIGKILL else 0
        wrong = () if code == wanted else (f"the process ended with {code}",)
        place.unlink(missing_ok=True)
        del self.endpoint.orders[order.key]
        again = self._run(replace(order, point=None))
        if again != 0:
            wrong = (*wrong, f"the process that went on ended with {again}")
        outcome = self._check(order, point)
        return replace(outcome, faults=(*wrong, *outcome.faults))

    def _order(self) -> Order:
        number = next(self.numbers)
        folder = self.home / str(number)
        folder.mkdir()
        (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
        return Order(folder=str(folder), model_url=self.url, key=f"key-{number}")

    def _run(self, order: Order) -> int:
        worker = self.workers.get()
        try:
            return worker.run(order.line())
        finally:
            self.workers.put(worker)

    def _check(self, order: Order, point: Point) -> Outcome:
        folder = Path(order.folder)
        record = anyio.run(_stored, folder)
        doubted = set(_doubted(record))
        asked = Counter(self.endpoint.asked[order.key])
        return Outcome(
            point=point,
            repeated=sum(asked.values()) - len(asked),
            doubts=len(doubted),
            faults=(
                *_wrong_end(record),
                *_lost_events(folder, record),
                *_wrong_effects(folder, doubted),
                *_wrong_requests(asked),
            ),
        )


async def _stored(folder: Path) -> JobRecord:
    async with open_sqlite_store(store_path(folder)) as store:
        return await store.load(JOB_ID)


def _doubted(record: JobRecord) -> Iterable[str]:
    """The keys of the calls that were reported as in doubt."""
    for run_id, events in record.runs.items():
        for event in events:
            if isinstance(event, RecordToolResult):
                result = event.tool_result
                if result.is_error and "effect is unknown" in str(result.result):
                    yield f"{run_id}:{result.id}"


def _wrong_end(record: JobRecord) -> Iterable[str]:
    root = newest_root(newest_checkpoints(record.runs))
    if record.job.status != "completed" or root is None:
        yield f"the job is {record.job.status}"
    elif root.text != ANSWER:
        yield f"the answer is {root.text!r}"


def _lost_events(folder: Path, record: JobRecord) -> Iterable[str]:
    stored = {event.id for events in record.runs.values() for event in events}
    said = (folder / "acknowledged").read_text(encoding="utf-8").split()
    if lost := set(said) - stored:
        yield f"lost after they were acknowledged: {sorted(lost)}"
    for run_id, events in record.runs.items():
        if [event.stamp.sequence for event in events] != list(range(1, len(events) + 1)):
            yield f"run {run_id} has gaps"


def _wrong_effects(folder: Path, doubted: set[str]) -> Iterable[str]:
    calls, done = _lines(folder / "calls.jsonl"), _lines(folder / "effects.jsonl")
    for tool in ("append", "put"):
        texts = Counter(line["text"] for line in done if line["tool"] == tool)
        called = {line["text"]: line["key"] for line in calls if line["tool"] == tool}
        for text in effects(tool):
            # A call that was killed on its way to the skill is in doubt, and left no trace there.
            is_doubted = called.get(text) in doubted or text not in called
            if texts[text] > 1 or (texts[text] == 0 and not is_doubted):
                yield f"{tool} {text} happened {texts[text]} times"
    unseen = {text for tool in ("append", "put") for text in effects(tool)}
    unseen -= {line["text"] for line in calls}
    if len(unseen) > len(doubted):
        yield f"nobody says what became of {sorted(unseen)}"
    for text in effects("put"):
        if len({line["key"] for line in calls if line["text"] == text}) > 1:
            yield f"put {text} was repeated with another idempotency key"


def _wrong_requests(asked: Counter[tuple[str, int]]) -> Iterable[str]:
    """One generation of each run can be under way when the process is killed, and no more."""
    again = [place for place, times in asked.items() if times > 1]
    if len({expert for expert, _ in again}) < len(again) or max(asked.values()) > 2:  # noqa: PLR2004 - once more
        yield f"asked too often: {[(place, asked[place]) for place in again]}"


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sampled(points: Sequence[Point], wanted: int) -> list[Point]:
    """So many of the points, evenly spread."""
    if wanted >= len(points):
        return list(points)
    return [points[number * len(points) // wanted] for number in range(wanted)]


def report(title: str, outcomes: Sequence[Outcome]) -> bool:
    """Say what came of the kills; whether everything holds."""
    by_place: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_place[outcome.point.place].append(outcome)
    say(f"{title}: {len(outcomes)} points")
    for place, of_place in by_place.items():
        say(
            f"  {place:<11} {len(of_place):4} points, {sum(not one.faults for one in of_place):4}"
            f" right, {sum(one.repeated for one in of_place):3} requests repeated,"
            f" {sum(one.doubts for one in of_place):3} calls reported in doubt"
        )
    repeats = Counter(outcome.repeated for outcome in outcomes)
    say(f"  requests repeated by a kill: {dict(sorted(repeats.items()))}")
    for outcome in outcomes:
        for fault in outcome.faults:
            say(f"  WRONG at {outcome.point.place} {outcome.point.number}: {fault}")
    return not any(outcome.faults for outcome in outcomes)


def survey(matrix: Matrix, options: argparse.Namespace) -> tuple[bool, str]:
    """Kill at all points, or at a sample of them."""
    counts = matrix.undisturbed()
    if counts["asking"] != STEPS:
        raise RuntimeError(f"the job has {counts['asking']} steps, not {STEPS}")
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
        strike: Callable[[Point], Outcome] = partial(matrix.killed, number=number)
        with ThreadPoolExecutor(WORKERS) as pool:
            outcomes = list(pool.map(strike, chosen))
        name = signal.Signals(number).name
        holds &= report(name, outcomes)
        right = sum(not outcome.faults for outcome in outcomes)
        seen.append(f"{right} of {len(chosen)} jobs ended right after {name}")
    is_whole = options.sample is None and options.place is None
    return holds and (not is_whole or len(points) >= FEWEST_POINTS), ", ".join(seen)


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


def main() -> None:
    """Kill, go on, look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="so many points of each signal only")
    parser.add_argument("--place", choices=PLACES, help="the points of one kind only")
    options = parser.parse_args(sys.argv[1:])
    began = time.monotonic()
    endpoint = Endpoint()
    with (
        workplace() as home,
        ModelServer(script, on_request=endpoint.heard) as model,
        Worker() as first,
        Worker() as second,
    ):
        workers: SimpleQueue[Worker] = SimpleQueue()
        workers.put(first)
        workers.put(second)
        holds, seen = survey(Matrix(workers, endpoint, model.base_url, home), options)
    took = time.monotonic() - began
    conclude("kill-matrix", holds=holds, seen=f"{seen}, in {took:.0f} s")


if __name__ == "__main__":
    main()
