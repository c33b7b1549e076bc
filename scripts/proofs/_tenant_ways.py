"""Every way to reach for a job, a task, a resource or a session by its id."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from _tenants import HANDSHAKE, REQUEST_ID, Answer, Message, User, absent_like


@dataclass(frozen=True)
class Aim:
    """What somebody tries to reach, by the ids that they may have seen."""

    job: str
    checkpoint: str
    question: str
    query: str
    state: str
    session: str
    older_session: str

    def absent(self, rng: random.Random) -> "Aim":
        """Ids of the same shape that were never given out."""
        return Aim(**{name: absent_like(value, rng) for name, value in asdict(self).items()})

    @property
    def names(self) -> dict[str, str]:
        """What to replace in an answer, so that only what else it says is left."""
        ids = {value: name for name, value in asdict(self).items()}
        # The longest first, since the id of a checkpoint may have another id in it.
        return {value: ids[value] for value in sorted(ids, key=len, reverse=True)}


Try = Callable[[User, Aim], Awaitable[Answer]]


@dataclass
class Way:
    """One way to reach for something.

    Attributes:
        name: For the report.
        go: Does it.
        is_same_for_owners: Whether also an owner is told nothing about what is there.
        changes: Whether it changes what is the owner's.
    """

    name: str
    go: Try
    is_same_for_owners: bool = False
    changes: bool = False


def read(template: str) -> Try:
    """Read a resource in the era without sessions."""

    async def go(one: User, aim: Aim) -> Answer:
        uri = template.format(**asdict(aim))
        return await one.modern("resources/read", {"uri": uri}, uri)

    return go


def call(tool: str, **arguments: str) -> Try:
    """Call a tool; the arguments are templates."""

    async def go(one: User, aim: Aim) -> Answer:
        given = {name: value.format(**asdict(aim)) for name, value in arguments.items()}
        return await one.call(tool, **given, **waiting(tool))

    return go


def legacy_call(tool: str, **arguments: str) -> Try:
    """Call a tool in one's own session."""

    async def go(one: User, aim: Aim) -> Answer:
        given: Message = {name: value.format(**asdict(aim)) for name, value in arguments.items()}
        given.update(waiting(tool))
        return await one.legacy("tools/call", {"name": tool, "arguments": given})

    return go


def waiting(tool: str) -> dict[str, int]:
    """Nobody waits for a job here."""
    return {} if tool in ("perstack_cancel", "perstack_jobs") else {"wait_seconds": 0}


def task(method: str, suffix: str = "", *, has_answers: bool = False) -> Try:
    """A request of the tasks extension."""

    async def go(one: User, aim: Aim) -> Answer:
        task_id = aim.job + suffix
        params: Message = {"taskId": task_id}
        if has_answers:
            answer = {"action": "accept", "content": {"answer": "mine now"}}
            params["inputResponses"] = {aim.question: answer}
        return await one.modern(method, params, task_id)

    return go


def complete(ref: Message, argument: str, value: str, **given: str) -> Try:
    """Have an id completed that one knows the beginning of."""

    async def go(one: User, aim: Aim) -> Answer:
        begun = {"name": argument, "value": value.format(**asdict(aim))}
        params: Message = {"ref": ref, "argument": begun}
        if given:
            arguments = {name: text.format(**asdict(aim)) for name, text in given.items()}
            params["context"] = {"arguments": arguments}
        return await one.modern("completion/complete", params)

    return go


def prompt(name: str, **arguments: str) -> Try:
    """Get a prompt about a job."""

    async def go(one: User, aim: Aim) -> Answer:
        given = {key: value.format(**asdict(aim)) for key, value in arguments.items()}
        return await one.modern("prompts/get", {"name": name, "arguments": given}, name)

    return go


def legacy(method: str, **params: str) -> Try:
    """A request in one's own session."""

    async def go(one: User, aim: Aim) -> Answer:
        given = {key: value.format(**asdict(aim)) for key, value in params.items()}
        return await one.legacy(method, given)

    return go


def in_session(http_method: str, method: str = "tools/list") -> Try:
    """Use a session of somebody else's."""

    async def go(one: User, aim: Aim) -> Answer:
        headers = {"mcp-session-id": aim.session, "mcp-protocol-version": HANDSHAKE}
        body: Message = {"jsonrpc": "2.0", "id": REQUEST_ID, "method": method, "params": {}}
        return await one.send(headers, body, http_method)

    return go


async def in_older_session(one: User, aim: Aim) -> Answer:
    """Post into a session of the older transport."""
    body: Message = {"jsonrpc": "2.0", "id": REQUEST_ID, "method": "tools/list", "params": {}}
    return await one.post(f"/messages/?session_id={aim.older_session}", body)


async def listen(one: User, aim: Aim) -> Answer:
    """Begin to follow the changes of a job."""
    uris = [f"perstack://jobs/{aim.job}", f"perstack://jobs/{aim.job}/events"]
    return await one.first_of_stream({"notifications": {"resourceSubscriptions": uris}})


async def retry(one: User, aim: Aim) -> Answer:
    """Answer a question with the state that its owner was given."""
    answer = {"action": "accept", "content": {"answer": "mine now"}}
    params: Message = {
        "name": "keeper",
        "arguments": {"query": aim.query},
        "requestState": aim.state,
        "inputResponses": {aim.question: answer},
    }
    return await one.modern("tools/call", params, "keeper")


JOB_TEMPLATE: Message = {"type": "ref/resource", "uri": "perstack://jobs/{job_id}"}
CHECKPOINT_TEMPLATE: Message = {
    "type": "ref/resource",
    "uri": "perstack://jobs/{job_id}/checkpoints/{checkpoint_id}{?after}",
}
REVIEW: Message = {"type": "ref/prompt", "name": "perstack_review_job"}
JOB = "perstack://jobs/{job}"

WAYS = [
    Way("perstack_job", call("perstack_job", job_id="{job}")),
    Way("read job", read(JOB)),
    Way("read events", read(JOB + "/events")),
    Way("read a page of events", read(JOB + "/events?after=1&limit=2")),
    Way("read checkpoints", read(JOB + "/checkpoints")),
    Way("read a checkpoint", read(JOB + "/checkpoints/{checkpoint}")),
    Way("read result", read(JOB + "/result")),
    Way("complete a job id", complete(JOB_TEMPLATE, "job_id", "{job}")),
    Way(
        "complete a checkpoint id",
        complete(CHECKPOINT_TEMPLATE, "checkpoint_id", "", job_id="{job}"),
    ),
    Way("complete a prompt's job id", complete(REVIEW, "job_id", "{job}")),
    Way("prompt about a job", prompt("perstack_review_job", job_id="{job}")),
    Way(
        "prompt of an expert", prompt("worker", query="q", job_id="{job}"), is_same_for_owners=True
    ),
    Way("listen", listen, is_same_for_owners=True),
    Way("tasks/get", task("tasks/get")),
    Way("tasks/get of a later task", task("tasks/get", ".2"), is_same_for_owners=True),
    Way("session: perstack_job", legacy_call("perstack_job", job_id="{job}")),
    Way("session: read job", legacy("resources/read", uri=JOB)),
    Way("session: read events", legacy("resources/read", uri=JOB + "/events")),
    Way("session: subscribe", legacy("resources/subscribe", uri=JOB), is_same_for_owners=True),
    Way("session: unsubscribe", legacy("resources/unsubscribe", uri=JOB), is_same_for_owners=True),
    Way("other's session: list", in_session("POST")),
    Way("other's session: ping", in_session("POST", "ping")),
    Way("other's older session", in_older_session),
    Way("tasks/update", task("tasks/update", has_answers=True), changes=True),
    Way("retry with a state", retry, changes=True),
    Way("answer", call("keeper", job_id="{job}", query="mine now"), changes=True),
    Way("resume", call("worker", job_id="{job}"), changes=True),
    Way("follow up", call("worker", job_id="{job}", query="more"), changes=True),
    Way(
        "branch",
        call("worker", job_id="{job}", checkpoint_id="{checkpoint}", query="more"),
        changes=True,
    ),
    Way("session: answer", legacy_call("keeper", job_id="{job}", query="mine now"), changes=True),
    Way("session: follow up", legacy_call("worker", job_id="{job}", query="more"), changes=True),
    Way("session: cancel", legacy_call("perstack_cancel", job_id="{job}"), changes=True),
    Way("perstack_cancel", call("perstack_cancel", job_id="{job}"), changes=True),
    Way("tasks/cancel", task("tasks/cancel"), changes=True),
    Way("other's session: end it", in_session("DELETE"), changes=True),
]
