"""Where the job of the kill proofs runs, and what must be true of it once it has ended."""

import json
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import anyio
from _kill_drive import Order, Point
from _kill_job import ANSWER, JOB_ID, SIDE_BY_SIDE, TOML, effects, place_of, script
from _kill_worker import Worker
from _stage import workplace

from perstack.core.events import RecordToolResult
from perstack.core.history import newest_checkpoints, newest_root
from perstack.runtime.ports import JobRecord
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.model_server import ModelServer, Request

WORKERS = 2
ONCE_MORE = 2


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
class Jobs:
    """Runs the job again and again, each time in a folder of its own.

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

    def order(self) -> Order:
        """A new job, in a new folder."""
        number = next(self.numbers)
        folder = self.home / str(number)
        folder.mkdir()
        (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
        return Order(folder=str(folder), model_url=self.url, key=f"key-{number}")

    def run(self, order: Order) -> int:
        """Carry an order out in a process of its own; returns how that ended."""
        worker = self.workers.get()
        try:
            return worker.run(order.line())
        finally:
            self.workers.put(worker)

    def run_stalled(self, order: Order, meanwhile: Callable[[], int]) -> tuple[int, int]:
        """Carry out an order that stops itself; do something meanwhile, then let it go on.

        Raises:
            RuntimeError: It did not stop.
        """
        with ThreadPoolExecutor(1) as other:
            ending = other.submit(self.run, order)
            pid = _once_stopped(Path(order.folder) / "pid", ending)
            done = meanwhile()
            os.kill(pid, signal.SIGCONT)
            return ending.result(), done

    def findings(self, order: Order) -> "Findings":
        """Look at a job that should have come to its end."""
        folder = Path(order.folder)
        record = anyio.run(_stored, folder)
        doubted = set(_doubted(record))
        asked = Counter(self.endpoint.asked[order.key])
        return Findings(
            repeated=sum(asked.values()) - len(asked),
            doubts=len(doubted),
            faults=(
                *_wrong_end(record),
                *_lost_events(folder, record),
                *_wrong_effects(folder, doubted),
                *_wrong_requests(asked),
            ),
        )


def _once_stopped(note: Path, ending: "Future[int]") -> int:
    """The id of the process in the note, once that stands still."""
    while not ending.done():
        time.sleep(0.005)
        with suppress(OSError, ValueError):
            pid = int(note.read_text(encoding="utf-8"))
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] == "T":
                return pid
    raise RuntimeError("the process came to its end and never stood still")


@contextmanager
def jobs() -> Generator[Jobs]:
    """A model, processes that have everything imported, and a folder that is gone afterwards."""
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
        yield Jobs(workers, endpoint, model.base_url, home)


@dataclass(frozen=True)
class Findings:
    """What became of a job.

    Attributes:
        repeated: Requests that the model was asked twice.
        doubts: Calls that were reported as of unknown effect.
        faults: What should not be.
    """

    repeated: int = 0
    doubts: int = 0
    faults: tuple[str, ...] = ()


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
    """What was under way when the process was killed is asked once more: a request of each run."""
    again = [place for place, times in asked.items() if times > 1]
    experts = {expert for expert, _ in again}
    is_one_of_each = len(experts) == len(again) and max(asked.values(), default=0) <= ONCE_MORE
    if not is_one_of_each or not (len(again) <= 1 or experts in SIDE_BY_SIDE):
        yield f"asked too often: {[(place, asked[place]) for place in again]}"


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
