"""Two users try 1,000 times each to reach what is the other's: they find only what is not there."""

import json
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import anyio
from _http import HttpServer
from _stage import conclude, plain_environment, say, workplace
from _tenant_ways import CHECKPOINT_TEMPLATE, JOB_TEMPLATE, WAYS, Aim, Way, complete
from _tenants import Answer, Message, User, absent_like, user
from anyio.abc import TaskGroup

from perstack.server.auth.token_file import format_entry, generate_token

ATTEMPTS = 1000
NAMES = ("alice", "bob")
SHOWN = 10
ACTIVE_EVERY = 50
"""So often a user goes on with a job of their own while the other tries to listen."""

TOML = """
[provider]
providerName = "scripted"
[provider.setting]
script = "script.toml"

[experts.worker]
description = "Works."
instruction = "Work."

[experts.sleeper]
description = "Takes long."
instruction = "Work."

[experts.keeper]
description = "Asks."
instruction = "Ask."
[experts.keeper.skills.user]
type = "interactiveSkill"
[experts.keeper.skills.user.tools.askUser]
description = "Asks the user."
inputJsonSchema = '{"type":"object","properties":{"question":{"type":"string"}}}'
"""
SCRIPT = [
    *['[[experts.worker]]\ntext = "worked on {{query}}"'] * 60,
    '[[experts.sleeper]]\ndelaySeconds = 900\ntext = "late"',
    '[[experts.keeper]]\ntoolCalls = [{ name = "askUser", args = { question = "{{query}}" } }]',
    '[[experts.keeper]]\ntext = "told {{lastToolResult}}"',
]
METHOD_NOT_FOUND = -32601


@dataclass
class Belongings:
    """What is one user's.

    Attributes:
        marker: A word that stands in everything of theirs.
        aims: Their jobs: one that is done, one that asks, one that runs, one that goes on.
        before: How the first three stood.
    """

    marker: str
    aims: list[Aim] = field(default_factory=list[Aim])
    before: list[str] = field(default_factory=list[str])

    @property
    def ids(self) -> set[str]:
        """Whatever nobody else may be told."""
        every = {value for aim in self.aims for value in asdict(aim).values()}
        return {self.marker} | every


@dataclass
class Report:
    """What was seen."""

    tried: Counter[str] = field(default_factory=Counter[str])
    not_built: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])

    def fault(self, text: str) -> None:
        """Note what must not be."""
        self.faults.append(text)
        if len(self.faults) <= SHOWN:
            say(f"  FAULT {text}")


def dice(seed: int, number: int) -> random.Random:
    """Chance that can be had again."""
    return random.Random(f"{seed} {number}")  # noqa: S311 - a game, not a secret


async def own(one: User, marker: str, older_session: str) -> Belongings:
    """Have a user begin jobs of each kind."""
    done = await one.call("worker", query=f"{marker} done", wait_seconds=30)
    asked = await one.modern(
        "tools/call", {"name": "keeper", "arguments": {"query": f"{marker} asks"}}, "keeper"
    )
    running = await one.call("sleeper", query=f"{marker} runs", wait_seconds=0)
    busy = await one.call("worker", query=f"{marker} busy", wait_seconds=30)
    waiting_job = (await newest(one, "keeper"))["job_id"]
    round_one: Message = asked.message["result"]
    question = next(iter(round_one["inputRequests"]))
    has = Belongings(marker)
    for job in (done.job_id, waiting_job, running.job_id, busy.job_id):
        has.aims.append(
            Aim(
                job=job,
                checkpoint=await newest_checkpoint(one, job),
                question=question,
                query=f"{marker} asks",
                state=round_one["requestState"],
                session=one.session["mcp-session-id"],
                older_session=older_session,
            )
        )
    has.before = await standing(one, has)
    return has


async def newest(one: User, expert: str) -> Message:
    """The newest job of an expert."""
    jobs: list[Message] = (await one.call("perstack_jobs")).facts["jobs"]
    return next(job for job in jobs if job["expert"] == expert)


async def newest_checkpoint(one: User, job_id: str) -> str:
    """The newest checkpoint of a job that has begun."""
    completed = await complete(CHECKPOINT_TEMPLATE, "checkpoint_id", "", job_id="{job}")(
        one, Aim(job_id, "", "", "", "", "", "")
    )
    values: list[str] = completed.message["result"]["completion"]["values"]
    return values[0]


async def standing(one: User, has: Belongings) -> list[str]:
    """How the jobs stand that nobody is to touch."""
    answers: list[str] = []
    for aim in has.aims[:3]:
        uri = f"perstack://jobs/{aim.job}/events"
        answers.append((await one.modern("resources/read", {"uri": uri}, uri)).body)
        facts = (await one.call("perstack_job", job_id=aim.job, wait_seconds=0)).facts
        answers.append(json.dumps([facts["status"], facts.get("text")]))
    return answers


async def attempt(way: Way, one: User, other: Belongings, rng: random.Random, seen: Report) -> None:
    """Reach for what is another's and for what is nobody's, and compare."""
    aim = rng.choice(other.aims)
    nothing = aim.absent(rng)
    answers: dict[bool, Answer] = {}
    for is_there in rng.sample((True, False), 2):
        answers[is_there] = await way.go(one, aim if is_there else nothing)
    seen.tried[way.name] += 1
    foreign, absent = answers[True].without(aim.names), answers[False].without(nothing.names)
    if f'"code":{METHOD_NOT_FOUND}' in foreign.body.replace(" ", ""):
        seen.not_built[way.name] += 1
    if foreign != absent:
        seen.fault(f"{way.name}: {foreign} is not {absent}")
    for secret in other.ids:
        if secret in foreign.body:
            seen.fault(f"{way.name}: gave away {secret}")


async def look_around(one: User, other: Belongings, seen: Report) -> None:
    """Ask for everything that is there."""
    lists = {
        "perstack_jobs": await one.call("perstack_jobs", limit=100),
        "resources/list": await one.modern("resources/list", {}),
        "complete any job id": await complete(JOB_TEMPLATE, "job_id", "")(one, other.aims[0]),
        "read jobs": await one.modern(
            "resources/read", {"uri": "perstack://jobs"}, "perstack://jobs"
        ),
        "session: resources/list": await one.legacy("resources/list", {}),
    }
    for name, answer in lists.items():
        seen.tried[name] += 1
        for secret in other.ids:
            if secret in answer.body:
                seen.fault(f"{name}: gave away {secret}")


async def storm(
    one: User, mine: Belongings, other: Belongings, rng: random.Random, seen: Report
) -> None:
    """1,000 attempts of one user."""
    lists = 5
    for number in range(ATTEMPTS):
        if number % (len(WAYS) + lists) == 0:
            await look_around(one, other, seen)
        if number % ACTIVE_EVERY == 0:
            await one.call("worker", job_id=mine.aims[3].job, query="go on", wait_seconds=30)
        await attempt(WAYS[number % len(WAYS)], one, other, rng, seen)


async def check_controls(one: User, mine: Belongings, rng: random.Random, seen: Report) -> int:
    """Have an owner go every way: what is found must differ from what is not there."""
    reached = 0
    for way in WAYS:
        if way.is_same_for_owners:
            continue
        found = False
        for aim in mine.aims:
            nothing = aim.absent(rng)
            answer = (await way.go(one, aim)).without(aim.names)
            found = found or answer != (await way.go(one, nothing)).without(nothing.names)
        reached += found
        if not found:
            seen.fault(f"{way.name}: an owner does not reach what is theirs, so it shows nothing")
    return reached


async def run(folder: Path, seed: int) -> tuple[Report, str]:
    """Let the two loose on each other."""
    tokens = {name: generate_token() for name in NAMES}
    write(folder, tokens)
    options = (
        "--tokens",
        str(folder / "tokens.toml"),
        "--audit",
        str(folder / "audit.jsonl"),
        "--sse",
    )
    seen = Report()
    with HttpServer(folder, plain_environment(), *options) as server:
        origin = server.url.removesuffix("/mcp")
        async with AsyncExitStack() as stack:
            users = [
                await stack.enter_async_context(user(origin, name, tokens[name])) for name in NAMES
            ]
            tasks = await stack.enter_async_context(anyio.create_task_group())
            has: list[Belongings] = []
            for one in users:
                older = await one.older_session(tasks)
                has.append(
                    await own(one, f"{one.name}-{absent_like('marker00', dice(seed, 4))}", older)
                )
            heard = await eavesdrop(users, has, tasks)
            say(f"{len(WAYS)} ways with an id, {ATTEMPTS} attempts of each user …")
            async with anyio.create_task_group() as storms:
                for number, one in enumerate(users):
                    rng = dice(seed, number)
                    storms.start_soon(storm, one, has[number], has[1 - number], rng, seen)
            await anyio.sleep(1.5)
            for number, one in enumerate(users):
                if await standing(one, has[number]) != has[number].before:
                    seen.fault(f"the jobs of {one.name} do not stand as they stood")
            told = check_streams(users, has, heard, seen)
            reached = [
                await check_controls(one, has[number], dice(seed, 2 + number), seen)
                for number, one in enumerate(users)
            ]
            tasks.cancel_scope.cancel()
        leaked = [line for line in server.stderr.splitlines() if "Traceback" in line]
    if leaked:
        seen.fault(f"the server said {leaked}")
    check_audit(folder, tokens, seen)
    ends = f"owners reach theirs {min(reached)} ways, and were told of {told} changes of theirs"
    return seen, ends


async def eavesdrop(
    users: list[User], has: list[Belongings], tasks: TaskGroup
) -> dict[str, list[str]]:
    """Listen to the other's jobs, in both eras, and to one's own."""
    heard: dict[str, list[str]] = {}
    for number, one in enumerate(users):
        for which, aims in (("own", has[number].aims), ("other", has[1 - number].aims)):
            uris = [f"perstack://jobs/{aim.job}" for aim in aims]
            lines = heard.setdefault(f"{one.name} {which}", [])
            started = anyio.Event()
            params: Message = {"notifications": {"resourceSubscriptions": uris}}
            tasks.start_soon(one.listen, params, lines, started)
            await started.wait()
            lines.clear()
        lines = heard.setdefault(f"{one.name} session", [])
        tasks.start_soon(one.hear_session, lines)
        for aim in has[1 - number].aims:
            await one.legacy("resources/subscribe", {"uri": f"perstack://jobs/{aim.job}"})
    return heard


def check_streams(
    users: list[User], has: list[Belongings], heard: dict[str, list[str]], seen: Report
) -> int:
    """Nobody was told of the other's changes; everybody was told of their own."""
    told = 0
    for number, one in enumerate(users):
        told += len(heard[f"{one.name} own"])
        if not heard[f"{one.name} own"]:
            seen.fault(f"{one.name} was told of no change of their own jobs")
        for stream in ("other", "session"):
            for line in heard[f"{one.name} {stream}"]:
                if stream == "other" or any(secret in line for secret in has[1 - number].ids):
                    seen.fault(f"{one.name} heard {line}")
    return told


def check_audit(folder: Path, tokens: dict[str, str], seen: Report) -> None:
    """Each attempt has its line, under the name of whoever tried."""
    text = (folder / "audit.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    for name in NAMES:
        if sum(line["principal"].startswith(f"{name}-") for line in lines) < ATTEMPTS:
            seen.fault(f"the audit has too few lines of {name}")
    if any(token in text for token in tokens.values()) or "mine now" in text:
        seen.fault("the audit says what it must not")


def write(folder: Path, tokens: dict[str, str]) -> None:
    """The definitions, the script and the tokens."""
    (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
    (folder / "script.toml").write_text("\n".join(SCRIPT), encoding="utf-8")
    path = folder / "tokens.toml"
    path.touch(mode=0o600)
    entries = [format_entry(token, name, ("perstack:run",), None) for name, token in tokens.items()]
    path.write_text("\n".join(entries), encoding="utf-8")


def main() -> None:
    """Run it, with the seed that was given or a new one."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(10**6)
    say(f"seed {seed}")
    with workplace() as folder:
        seen, ends = anyio.run(run, folder, seed)
    for name, count in sorted(seen.tried.items()):
        missing = f", {seen.not_built[name]} times not built" if seen.not_built[name] else ""
        say(f"  {name}: {count}{missing}")
    tried = sum(seen.tried.values())
    conclude(
        "tenants",
        holds=not seen.faults and not seen.not_built,
        seen=f"{tried} attempts of two users in {len(seen.tried)} ways, {len(seen.faults)} told"
        f" from absent ids, {len(seen.not_built)} ways not built; {ends}",
    )


if __name__ == "__main__":
    main()
