"""200 calls with cancels, disconnects and repeated ids: each job ends once, nothing leaks."""

import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from _http import HttpServer
from _peers import HttpPeer, Message, NoAnswerError, Peer, StdioPeer, facts, http_peer, stdio_peer
from _stage import conclude, plain_environment, say, workplace

from perstack.core.events import RunEvent
from perstack.runtime.ports import JobRecord, SystemClock
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.model_server import ModelServer, Reply, Request, Slow, ToolCall

CALLS = 200
WARM_UP = 60
"""Calls before the first look at what the servers hold: each has opened what it keeps by then."""

AT_ONCE = 16
LATE_MS = 100
"""A request that was on its way when its job was stopped may arrive this much later."""

TOML = """
model = "gpt-5"
maxSteps = 20

[provider]
providerName = "openai"

[experts."worker"]
description = "Works."
instruction = "Work."
"""
STARTS = ("startRun", "resumeFromStop")
STOPS = re.compile(r"completeRun|stopRunBy\w+")


@dataclass(frozen=True)
class Asked:
    """One model call: when it came, and for which job."""

    token: str
    at_ms: float


@dataclass
class Worker:
    """The model of the expert: some steps with a tool, then the answer, as the seed has it."""

    seed: int
    asked: list[Asked] = field(default_factory=list[Asked])

    def decide(self, request: Request) -> Slow:
        """The next step of the job that the request belongs to."""
        text = "\n".join(message.text for message in request.messages if message.role == "user")
        token = re.findall(r"storm-\d+", text)[0]
        self.asked.append(Asked(token, time.time() * 1000))  # noqa: TID251 - the store's clock too
        steps, seconds = self.plan(token)
        done = sum(1 for message in request.messages if message.role == "tool")
        if done < steps:
            arguments = {"newTodos": [f"{token} {done}"]}
            reply = Reply(tool_calls=(ToolCall("todo", arguments, f"{token}-{done}"),))
        else:
            reply = Reply(f"answer of {token}")
        return Slow(reply, before_seconds=seconds)

    def plan(self, token: str) -> tuple[int, float]:
        """Steps with a tool, and seconds of each."""
        dice = random.Random(f"{self.seed} {token}")  # noqa: S311 - a game, not a secret
        return dice.randint(1, 4), dice.uniform(0.02, 0.4)


@dataclass
class Storm:
    """What happened."""

    peers: Sequence[Peer]
    dice: random.Random
    kinds: Counter[str] = field(default_factory=Counter[str])
    complaints: list[str] = field(default_factory=list[str])
    next_id: int = 1000

    async def one(self, number: int) -> None:
        """One call, which goes as the dice say."""
        token = f"storm-{number}"
        kind = self.dice.choice(list(KINDS))
        self.kinds[kind] += 1
        try:
            with anyio.fail_after(60):
                await KINDS[kind](self, token)
        except TimeoutError:
            self.complaints.append(f"{token} ({kind}) was not answered in 60 s")
        except NoAnswerError as error:
            self.complaints.append(f"{token} ({kind}): {error} hung up")

    def peer(self) -> Peer:
        """Any client."""
        return self.dice.choice(self.peers)

    async def ask(self, peer: Peer, tool: str, **arguments: Any) -> Message:
        """Call with an id of its own."""
        self.next_id += 1
        return await peer.call(tool, arguments, self.next_id)

    def expect(self, token: str, kind: str, answer: Message, *statuses: str) -> None:
        """Complain about an answer that is none of those."""
        if facts(answer).get("status") not in statuses:
            self.complaints.append(f"{token} ({kind}): {str(answer)[:300]}")


async def waits(storm: Storm, token: str) -> None:
    """The client waits."""
    answer = await storm.ask(storm.peer(), "worker", query=token)
    storm.expect(token, "waits", answer, "completed")


async def collects_elsewhere(storm: Storm, token: str) -> None:
    """The client takes the job's id, and another client collects."""
    answer = await storm.ask(storm.peer(), "worker", query=token, wait_seconds=0)
    job_id = facts(answer)["job_id"]
    answer = await storm.ask(storm.peer(), "perstack_job", job_id=job_id, wait_seconds=50)
    storm.expect(token, "collects elsewhere", answer, "completed")


async def gives_up(storm: Storm, token: str) -> None:
    """The client cancels, closes the stream or just does not wait any longer."""
    peer = storm.peer()
    with anyio.move_on_after(storm.dice.uniform(0.0, 0.9)):
        await storm.ask(peer, "worker", query=token)


async def stops_the_job(storm: Storm, token: str) -> None:
    """The client takes the job's id, and another client stops it."""
    answer = await storm.ask(storm.peer(), "worker", query=token, wait_seconds=0)
    job_id = facts(answer)["job_id"]
    await anyio.sleep(storm.dice.uniform(0.0, 0.8))
    answer = await storm.ask(storm.peer(), "perstack_cancel", job_id=job_id)
    storm.expect(token, "stops the job", answer, "cancelled", "completed", "running")


async def attaches_thrice(storm: Storm, token: str) -> None:
    """Three clients wait for one job by the expert's tool; all get the same answer."""
    answer = await storm.ask(storm.peer(), "worker", query=token, wait_seconds=0)
    job_id = facts(answer)["job_id"]
    texts: set[str] = set()

    async def attach() -> None:
        again = await storm.ask(storm.peer(), "worker", query="", job_id=job_id, wait_seconds=50)
        storm.expect(token, "attaches thrice", again, "completed")
        texts.add(str(facts(again).get("text")))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(attach)
    if texts != {f"answer of {token}"}:
        storm.complaints.append(f"{token} (attaches thrice): {texts}")


async def repeats_the_id(storm: Storm, token: str) -> None:
    """The client uses the id of a request that is still open for another one."""
    peer = storm.peer()
    storm.next_id += 1
    rpc_id = storm.next_id
    answered: list[str] = []

    async def ask(tool: str, arguments: Mapping[str, Any]) -> None:
        await peer.call(tool, arguments, rpc_id)
        answered.append(tool)

    with anyio.move_on_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "worker", {"query": token, "wait_seconds": 50})
            tasks.start_soon(ask, "perstack_jobs", {"limit": 1})
    # An id must not be used twice at a time, so which request gets an answer is nobody's promise.
    if not answered:
        storm.complaints.append(f"{token} (repeats the id): {peer.name} got no answer")


KINDS: dict[str, Callable[[Storm, str], Awaitable[None]]] = {
    "waits": waits,
    "collects elsewhere": collects_elsewhere,
    "gives up": gives_up,
    "stops the job": stops_the_job,
    "attaches thrice": attaches_thrice,
    "repeats the id": repeats_the_id,
}


@dataclass(frozen=True)
class Footprint:
    """What a process holds.

    Attributes:
        files: Files, pipes and the like.
        connections: Sockets; idle ones to the model are kept for the next request.
        threads: With the main thread.
        children: Processes that it started.
    """

    files: int
    connections: int
    threads: int
    children: int

    @classmethod
    def of(cls, pid: int) -> "Footprint":
        """That of a process, as the system has it."""
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [(task / "children").read_text(encoding="ascii").split() for task in tasks]
        targets = [_target(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        sockets = sum(target.startswith("socket:") for target in targets)
        return cls(
            files=len(targets) - sockets,
            connections=sockets,
            threads=len(tasks),
            children=sum(map(len, children)),
        )


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""


async def rage(seed: int, folder: Path, environment: dict[str, str]) -> list[str]:
    """Run the storm; what went wrong is returned."""
    with HttpServer(folder, environment) as http:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            stdio = [
                await enter(stdio_peer("stdio, handshake", folder, environment, is_modern=False)),
                await enter(stdio_peer("stdio, modern", folder, environment, is_modern=True)),
                await enter(
                    stdio_peer("stdio, silent", folder, environment, is_modern=False, tells=False)
                ),
            ]
            over_http: list[HttpPeer] = [
                await enter(http_peer("HTTP, handshake", http.url, is_modern=False)),
                await enter(http_peer("HTTP, modern", http.url, is_modern=True)),
            ]
            storm = Storm([*stdio, *over_http], random.Random(seed))  # noqa: S311 - a game
            pids = [http.pid, *(peer.process.pid for peer in stdio)]
            await all_calls(storm, range(WARM_UP))
            await quiet(storm)
            before = [Footprint.of(pid) for pid in pids]
            await all_calls(storm, range(WARM_UP, WARM_UP + CALLS))
            await quiet(storm)
            for peer in over_http:
                await peer.client.aclose()
            await anyio.sleep(1.5)
            after = [Footprint.of(pid) for pid in pids]
            say(f"calls: {', '.join(f'{count} {kind}' for kind, count in storm.kinds.items())}")
            storm.complaints += leaks(before, after)
            storm.complaints += [
                f"{peer.name} wrote what is no message" for peer in stdio if peer.strays
            ]
        storm.complaints += [f"{peer.name}: exit {peer.process.returncode}" for peer in bad(stdio)]
    if http.exit_code != 0:
        storm.complaints.append(f"HTTP: exit {http.exit_code}")
    return storm.complaints


def bad(peers: Sequence[StdioPeer]) -> list[StdioPeer]:
    """Those whose server did not end well."""
    return [peer for peer in peers if peer.process.returncode != 0]


async def all_calls(storm: Storm, numbers: Iterable[int]) -> None:
    """Some calls at a time."""
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with limiter:
            await storm.one(number)

    async with anyio.create_task_group() as tasks:
        for number in numbers:
            tasks.start_soon(one, number)


async def quiet(storm: Storm) -> None:
    """Wait until no job runs any more."""
    with anyio.move_on_after(60):
        while True:
            answer = await storm.ask(storm.peers[0], "perstack_jobs", status="running", limit=100)
            if not facts(answer)["jobs"]:
                return
            await anyio.sleep(0.3)
    storm.complaints.append("jobs were still running after 60 s")


def leaks(before: Sequence[Footprint], after: Sequence[Footprint]) -> list[str]:
    """What a process holds now and did not hold before."""
    found: list[str] = []
    for old, new in zip(before, after, strict=True):
        say(f"held before {old}, after {new}")
        if new.children > 0:
            found.append(f"{new.children} child processes are left")
        if new.files > old.files or new.threads > old.threads:
            found.append("files or threads were not given back")
        if new.connections > old.connections + AT_ONCE:
            found.append("connections were not given back")
    return found


async def recorded(folder: Path) -> list[JobRecord]:
    """Every job of the store."""
    async with open_sqlite_store(store_path(folder), clock=SystemClock()) as store:
        return [await store.load(job.id) for job in await store.jobs(limit=10_000)]


def judge(records: Sequence[JobRecord], worker: Worker) -> list[str]:
    """What the events and the model's log say against the promises."""
    complaints: list[str] = []
    tokens = Counter(record.job.query for record in records)
    complaints += [f"{token} has {count} jobs" for token, count in tokens.items() if count > 1]
    asked: dict[str, list[float]] = defaultdict(list)
    for each in worker.asked:
        asked[each.token].append(each.at_ms)
    for record in records:
        complaints += _judge_job(record, asked[record.job.query], worker)
    statuses = Counter(record.job.status for record in records)
    say(f"jobs: {', '.join(f'{count} {status}' for status, count in statuses.items())}")
    return complaints


def _judge_job(record: JobRecord, asked: Sequence[float], worker: Worker) -> list[str]:
    token = record.job.query
    events: list[RunEvent] = [event for run in record.runs.values() for event in run]
    starts = [event for event in events if event.type in STARTS]
    stops = [event for event in events if STOPS.fullmatch(event.type)]
    complaints: list[str] = []
    if len(starts) != 1 or len(stops) != 1 or events[-1] is not stops[0]:
        complaints.append(f"{token}: {len(starts)} starts, {len(stops)} ends")
    late = [at for at in asked if stops and at > stops[-1].stamp.timestamp + LATE_MS]
    if late:
        complaints.append(f"{token}: the model was asked {len(late)} times after the end")
    steps, _ = worker.plan(token)
    if len(asked) > steps + 1 or (record.job.status == "completed" and len(asked) != steps + 1):
        complaints.append(f"{token}: {len(asked)} model calls for {steps} steps with tools")
    return complaints


def main() -> None:
    """Storm with the seed that was given, or with a new one."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(10**6)  # noqa: S311 - a game
    say(f"seed {seed}")
    worker = Worker(seed)
    with workplace() as folder, ModelServer(worker.decide) as model:
        (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
        environment = plain_environment(
            OPENAI_API_KEY="sk-proof", OPENAI_BASE_URL=f"{model.base_url}/v1"
        )
        complaints = anyio.run(rage, seed, folder, environment)
        complaints += judge(anyio.run(recorded, folder), worker)
    for complaint in complaints[:20]:
        say(complaint)
    conclude(
        "storm",
        holds=not complaints,
        seen=f"{CALLS} calls by 5 clients of 4 servers on one workspace, {len(worker.asked)} model "
        f"calls, {len(complaints)} complaints (seed {seed})",
    )


if __name__ == "__main__":
    main()
