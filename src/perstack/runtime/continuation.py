"""What a request means for its job: begin, go on, answer, branch, or nothing more to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perstack.core import events as ev
from perstack.core.answers import as_text
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import checkpoint_at, newest_checkpoints, newest_root
from perstack.core.messages import TextPart, ToolCall, UserMessage
from perstack.errors import JobStateError, NotFoundError
from perstack.runtime.ports import JobRecord

DECLINED = "The user declined to answer. Go on without the answer, or end the task."
"""What an expert is told instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractiveAnswer:
    """The user's answer to a question of an expert.

    Attributes:
        text: What the user says.
        tool_call_id: The id of the question; without it, the first open one.
        content: The fields of a form, where the user was given one.
        is_declined: The user does not want to answer; the expert is told so.
    """

    text: str = ""
    tool_call_id: str | None = None
    content: Mapping[str, Any] | None = None
    is_declined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """How a run differs from the one that it branches off, apart from its model.

    Attributes:
        instruction: What the expert is instructed from there on; by default what it was.
    """

    instruction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a caller wants done.

    Attributes:
        expert_key: Which expert; may be left out when `job_id` is given.
        query: The task, a follow-up, or the answer to the open question. Empty with `job_id`: just
        go on.
        job_id: Continue this job.
        new_job_id: The id that a new job shall have.
        checkpoint_id: With `job_id`: go on from this checkpoint; an older one makes a branch.
        answer: The answer to an open question, where `query` alone does not say which.
        inputs: The arguments that the expert declares; they become a part of the query.
        files: Paths in the workspace that the caller points to.
        max_steps: Steps that this request may use, over all its runs.
        fork: Begin a run of its own at the checkpoint, or at the newest one, instead of going on.
    """

    expert_key: str | None = None
    query: str = ""
    job_id: str | None = None
    new_job_id: str | None = None
    checkpoint_id: str | None = None
    answer: InteractiveAnswer | None = None
    inputs: Mapping[str, Any] | None = None
    files: tuple[str, ...] = ()
    max_steps: int | None = None
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a new run on top of `base`, if there is one, with `query` as the next user message.

    Without a query the run goes on where `base` stands, after `answer`, if there is one; as a
    `fork` it starts anew from there.
    """

    base: Checkpoint | None
    query: str
    answer: tuple[ToolCall, str] | None = None
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with the run of `checkpoint`.

    `answer`, a question and what the user says to it, is recorded first.
    """

    checkpoint: Checkpoint
    answer: tuple[ToolCall, str] | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """There is nothing to do: the job stands at `checkpoint`."""

    checkpoint: Checkpoint


Plan = Begin | Resume | Rest


@dataclass(frozen=True, slots=True)
class History:
    """A stored job, rebuilt."""

    record: JobRecord
    checkpoints: Mapping[str, Checkpoint]
    root: Checkpoint

    @property
    def last_step(self) -> int:
        """The highest step number in use."""
        return max(checkpoint.step_number for checkpoint in self.checkpoints.values())


def rebuild(record: JobRecord) -> History:
    """Fold the events of a stored job into the checkpoints that they led to.

    Raises:
        NotFoundError: The job has no run yet.
    """
    checkpoints = newest_checkpoints(record.runs)
    root = newest_root(checkpoints)
    if root is None:
        raise NotFoundError(f"Job {record.job.id} has no run.")
    return History(record, checkpoints, root)


def plan(history: History, request: JobRequest) -> Plan:
    """Decide what `request` asks of a job that no one is driving.

    Raises:
        NotFoundError: The job has no such checkpoint.
        JobStateError: The checkpoint or the answer does not fit the job.
    """
    head = history.root
    if request.fork is not None:
        return _fork(history, request, request.fork)
    if request.checkpoint_id is not None and request.checkpoint_id != head.id:
        return _branch(_older(history, request.checkpoint_id), request)
    if head.status == "stoppedByInteractiveTool":
        answer = _answer(head, request)
        return Rest(head) if answer is None else Resume(head, answer)
    if request.answer is not None:
        raise JobStateError(f"Job {head.job_id} is not waiting for an answer.")
    is_repeat = request.query.strip() in ("", query_of(history.record, head.run_id).strip())
    if head.status == "completed":
        return Begin(head, request.query) if request.query.strip() else Rest(head)
    return Resume(head) if is_repeat else Begin(head, request.query)


def _older(history: History, checkpoint_id: str) -> Checkpoint:
    base = checkpoint_at(history.record.runs, checkpoint_id)
    if base is None:
        raise NotFoundError(
            f"Checkpoint {checkpoint_id} not found in job {history.root.job_id}.",
            hint="The id of each event of a run is one; perstack log --json shows them.",
        )
    if base.delegated_by is not None:
        raise JobStateError(
            f"Checkpoint {checkpoint_id} belongs to a delegate.",
            hint="Resume from a checkpoint of the run that the job began with.",
        )
    return base


def _fork(history: History, request: JobRequest, fork: Fork) -> Begin:
    is_older = request.checkpoint_id not in (None, history.root.id)
    base = _older(history, request.checkpoint_id or "") if is_older else history.root
    if base.status == "completed" and not request.query.strip():
        raise JobStateError(
            f"Job {base.job_id} has its answer at checkpoint {base.id}: nothing is left to do.",
            hint="Give a query, or an earlier step.",
        )
    return Begin(base, request.query, fork=fork)


def _branch(base: Checkpoint, request: JobRequest) -> Begin:
    if base.status == "stoppedByInteractiveTool":
        return Begin(base, "", _answer(base, request))
    if request.answer is not None:
        raise JobStateError(
            f"Checkpoint {base.id} is not waiting for an answer.",
            hint="The id of a stopRunByInteractiveTool event is that of one that is.",
        )
    return Begin(base, request.query)


def _answer(asking: Checkpoint, request: JobRequest) -> tuple[ToolCall, str] | None:
    """The question that the request answers, and what it says to it."""
    questions = asking.pending("interactive")
    answer = request.answer or (InteractiveAnswer(text=request.query) if request.query else None)
    if answer is None:
        return None
    for call in questions:
        if answer.tool_call_id in (None, call.id):
            return call, _said(answer)
    raise JobStateError(
        f"Job {asking.job_id} has no open question {answer.tool_call_id!r}.",
        hint=f"The first that is open has the toolCallId {questions[0].id!r}.",
    )


def _said(answer: InteractiveAnswer) -> str:
    if answer.is_declined:
        return DECLINED
    return answer.text if answer.content is None else as_text(answer.content)


def query_of(record: JobRecord, run_id: str) -> str:
    """The text with which the caller began a run; empty for a branch that went on without one."""
    first = record.runs[run_id][0]
    if not isinstance(first, ev.StartRun):
        return ""
    spoken = [message for message in first.input_messages if isinstance(message, UserMessage)]
    return (
        "".join(part.text for part in spoken[-1].contents if isinstance(part, TextPart))
        if spoken
        else ""
    )
