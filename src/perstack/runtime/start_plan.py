"""What a request means for its job: start, resume, answer or branch a run, or do nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.elicitation import format_content, question_from_call
from perstack.core.history import checkpoint_at, newest_checkpoints, newest_root
from perstack.core.messages import TextPart, ToolCall, ToolResult, UserMessage, text_result
from perstack.definition.budget import Budget
from perstack.errors import JobStateError, NotFoundError
from perstack.runtime.answers import InteractiveAnswer, checked_content
from perstack.runtime.ports import JobRecord

DECLINED_ANSWER = "The user declined to answer. Go on without the answer, or end the task."
"""The tool result in place of the missing answer."""


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
        new_job_id: The id of the new job.
        new_run_id: The id of the run that begins.
        checkpoint_id: With `job_id`: continue from this checkpoint; an older one makes a branch.
        answer: The answer to an open question, where `query` alone does not say which.
        inputs: The arguments that the expert declares; they become a part of the query.
        files: Paths in the workspace that the caller points to.
        max_steps: Steps that this request may use, over all its runs.
        budget: What else it may use; where the file or the operator is stricter, that holds.
        fork: Begin a run of its own at the checkpoint, or at the newest one, instead of continuing.
    """

    expert_key: str | None = None
    query: str = ""
    job_id: str | None = None
    new_job_id: str | None = None
    new_run_id: str | None = None
    checkpoint_id: str | None = None
    answer: InteractiveAnswer | None = None
    inputs: Mapping[str, Any] | None = None
    files: tuple[str, ...] = ()
    max_steps: int | None = None
    budget: Budget | None = None
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class StartRunPlan:
    """Start a new run on top of `base`, if there is one, with `query` as the next user message.

    Without a query the run continues from `base`, after recording `answer`, if there is one; a
    `fork` starts a new conversation there.
    """

    base: Checkpoint | None
    query: str
    answer: ToolResult | None = None
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class ResumePlan:
    """Resume the run of `checkpoint`, after recording the user's `answer` to its open question."""

    checkpoint: Checkpoint
    answer: ToolResult | None = None


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """There is nothing to do: `checkpoint` is final."""

    checkpoint: Checkpoint


StartPlan = StartRunPlan | ResumePlan | AlreadyDone


@dataclass(frozen=True, slots=True)
class JobState:
    """A stored job, rebuilt."""

    record: JobRecord
    checkpoints: Mapping[str, Checkpoint]
    root: Checkpoint

    @property
    def last_step(self) -> int:
        """The highest step number in use."""
        return max(checkpoint.step_number for checkpoint in self.checkpoints.values())


def rebuild_state(record: JobRecord) -> JobState:
    """Fold the events of a stored job into the checkpoints that they led to.

    Raises:
        NotFoundError: The job has no run yet.
    """
    checkpoints = newest_checkpoints(record.runs)
    root = newest_root(checkpoints)
    if root is None:
        raise NotFoundError(f"Job {record.job.id} has no run.")
    return JobState(record, checkpoints, root)


def plan_start(state: JobState, request: JobRequest) -> StartPlan:
    """Decide what `request` asks of a job that no process drives.

    Raises:
        NotFoundError: The job has no such checkpoint.
        JobStateError: The checkpoint or the answer does not fit the job.
    """
    start_plan = _plan(state, request)
    if request.new_run_id is not None:
        _check_run_id(state, request.new_run_id, start_plan)
    return start_plan


def _check_run_id(state: JobState, run_id: str, start_plan: StartPlan) -> None:
    if not isinstance(start_plan, StartRunPlan):
        raise JobStateError(
            f"Run {start_plan.checkpoint.run_id} of job {state.root.job_id} goes on under its own "
            "id.",
            hint="A run id is for one that begins: with a new query, or from an older checkpoint.",
        )
    if run_id in state.record.runs:
        raise JobStateError(f"Run {run_id} exists already.", hint="Choose another run id.")


def _plan(state: JobState, request: JobRequest) -> StartPlan:
    root = state.root
    if request.fork is not None:
        return _plan_fork(state, request, request.fork)
    if request.checkpoint_id is not None and request.checkpoint_id != root.id:
        return _plan_branch(_find_base(state, request.checkpoint_id), request)
    if root.status == "stoppedByInteractiveTool":
        answer = _match_answer(root, request)
        return AlreadyDone(root) if answer is None else ResumePlan(root, answer)
    if request.answer is not None:
        raise JobStateError(f"Job {root.job_id} is not waiting for an answer.")
    is_repeat = request.query.strip() in ("", query_of_run(state.record, root.run_id).strip())
    if root.status == "completed":
        if request.checkpoint_id is not None:
            _check_left_to_do(root, request)
        return StartRunPlan(root, request.query) if request.query.strip() else AlreadyDone(root)
    return ResumePlan(root) if is_repeat else StartRunPlan(root, request.query)


def _find_base(state: JobState, checkpoint_id: str) -> Checkpoint:
    base = checkpoint_at(state.record.runs, checkpoint_id)
    if base is None:
        raise NotFoundError(
            f"Checkpoint {checkpoint_id} not found in job {state.root.job_id}.",
            hint="The id of each event of a run is one; perstack log --json shows them.",
        )
    if base.delegated_by is not None:
        raise JobStateError(
            f"Checkpoint {checkpoint_id} belongs to a delegate.",
            hint="Resume from a checkpoint of the run that the job began with.",
        )
    return base


def _plan_fork(state: JobState, request: JobRequest, fork: Fork) -> StartRunPlan:
    is_older = request.checkpoint_id not in (None, state.root.id)
    base = _find_base(state, request.checkpoint_id or "") if is_older else state.root
    _check_left_to_do(base, request)
    return StartRunPlan(base, request.query, fork=fork)


def _check_left_to_do(base: Checkpoint, request: JobRequest) -> None:
    if base.status == "completed" and not request.query.strip():
        raise JobStateError(
            f"Job {base.job_id} has its answer at checkpoint {base.id}: nothing is left to do.",
            hint="Give a query, or an earlier checkpoint.",
        )


def _plan_branch(base: Checkpoint, request: JobRequest) -> StartRunPlan:
    _check_left_to_do(base, request)
    if base.status == "stoppedByInteractiveTool":
        return StartRunPlan(base, "", _match_answer(base, request))
    if request.answer is not None:
        raise JobStateError(
            f"Checkpoint {base.id} is not waiting for an answer.",
            hint="The id of a stopRunByInteractiveTool event is that of one that is.",
        )
    return StartRunPlan(base, request.query)


def _match_answer(checkpoint: Checkpoint, request: JobRequest) -> ToolResult | None:
    questions = checkpoint.pending("interactive")
    answer = request.answer or (InteractiveAnswer(text=request.query) if request.query else None)
    if answer is None:
        return None
    for call in questions:
        if answer.tool_call_id in (None, call.id):
            return text_result(call, _answer_text(call, answer))
    raise JobStateError(
        f"Job {checkpoint.job_id} has no open question {answer.tool_call_id!r}.",
        hint=f"The first that is open has the toolCallId {questions[0].id!r}.",
    )


def _answer_text(call: ToolCall, answer: InteractiveAnswer) -> str:
    if answer.is_declined:
        return DECLINED_ANSWER
    return format_content(checked_content(answer, question_from_call(call)))


def query_of_run(record: JobRecord, run_id: str) -> str:
    """The text with which the caller began a run; empty for a branch that continued without one."""
    first = record.runs[run_id][0]
    if not isinstance(first, ev.StartRun):
        return ""
    user_messages = [
        message for message in first.input_messages if isinstance(message, UserMessage)
    ]
    return (
        "".join(part.text for part in user_messages[-1].contents if isinstance(part, TextPart))
        if user_messages
        else ""
    )
