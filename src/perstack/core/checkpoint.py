"""The whole state of a run as one frozen value, and the job that its runs add up to."""

import json
from enum import StrEnum
from itertools import takewhile
from typing import Any, Literal

from pydantic import Field

from perstack.core.events import (
    DelegatedBy,
    Delegation,
    ExpertRef,
    Limit,
    Limits,
    ModelRef,
    RunError,
)
from perstack.core.messages import (
    Citation,
    ExpertMedia,
    ExpertMessage,
    Message,
    ToolCall,
    ToolKind,
    ToolResult,
    Usage,
    UserMessage,
)
from perstack.core.todo import TodoList
from perstack.core.verification import VerificationResult
from perstack.models import FrozenModel


class State(StrEnum):
    """What a run does next. `STOPPED` is final; the other ten each have one `decide` function."""

    INIT = "init"
    PREPARING_FOR_STEP = "preparingForStep"
    RESUMING_FROM_STOP = "resumingFromStop"
    GENERATING_TOOL_CALL = "generatingToolCall"
    CALLING_MCP_TOOLS = "callingMcpTools"
    CALLING_DELEGATES = "callingDelegates"
    CALLING_INTERACTIVE_TOOLS = "callingInteractiveTools"
    VERIFYING_COMPLETION = "verifyingCompletion"
    RESOLVING_TOOL_RESULT = "resolvingToolResult"
    FINISHING_STEP = "finishingStep"
    STOPPED = "stopped"


CheckpointStatus = Literal[
    "init",
    "proceeding",
    "completed",
    "stoppedByInteractiveTool",
    "stoppedByDelegate",
    "stoppedByExceededMaxSteps",
    "stoppedByExceededBudget",
    "stoppedByError",
    "stoppedByCancellation",
]

JobStatus = Literal[
    "running",
    "completed",
    "stoppedByInteractiveTool",
    "stoppedByMaxSteps",
    "stoppedByBudget",
    "stoppedByError",
    "stoppedByCancellation",
    "interrupted",
]

FINISHED_STATUSES: tuple[JobStatus, ...] = (
    "completed",
    "stoppedByMaxSteps",
    "stoppedByBudget",
    "stoppedByError",
    "stoppedByCancellation",
)
"""Jobs with these have ended. The others run, wait for an answer, or have lost their process."""


class ExhaustedBudget(FrozenModel):
    """What is used up, whose budget it is, and the same for people."""

    limit: Limit
    run_id: str
    message: str


class Checkpoint(FrozenModel):
    """A run as one event left it; each event makes a new checkpoint.

    Attributes:
        id: That of the event that led here; it ends in `-0` before the first one.
        parent_id: The checkpoint of another run that this run carries on from, if any.
        sequence: Number of events of the run.
        state: What the run does next.
        status: The status that users see.
        step_number: The present step, counted over all runs of the job.
        step_limit: The last step number that the job may use for the present request.
        own_steps: Steps of this run.
        limits: What this run and its delegates may use, if that is limited.
        budget_notice: The largest used part of a budget that the expert was told of.
        is_budget_renewed: Whether what it was told does not hold any more, and it does not know.
        exhausted: The budget that stopped the run, if one did.
        provider: Who generates.
        model: Which model generates.
        fallback_count: How many models have been given up since the run began or was resumed.
        first_model: The one that generates when the run is resumed, while another stands in for it.
        messages: The whole conversation, instruction first.
        usage: Tokens of this run; delegates count theirs.
        context_window: Tokens that the model can take, if known.
        replaced_replies: Replies of the model that summaries have replaced in the conversation.
        context_tokens: Tokens that the last generation took and gave.
        context_window_usage: How much of the window that is, from 0 to 1.
        delegated_by: The call of another run that this run answers; none if the user began it.
        delegate_to: The child runs that answer this run's own delegate calls.
        tool_calls: The calls of the last expert message in order of execution, until all answers
        are part of `messages`.
        started_tool_calls: Ids of those whose effect may have happened.
        tool_results: Their answers so far, in order of arrival.
        is_completion_accepted: Whether the expert said that it has finished, and may.
        is_answer_pending: Whether the last message is an answer in plain text that is verified.
        verifications: What was checked at the newest attempt to complete.
        refused_completions: Attempts to complete that verifications have refused, counted from the
        last request of the user.
        text: The answer of a completed run.
        is_typed: Whether that is the JSON of a value that fits what the expert declares to answer.
        retry_count: Attempts at a generation that failed since the last one that was of use.
        retry_delay_seconds: How long to wait before the next attempt.
        error: Why the run stopped, if an error stopped it.
        trace_parent: W3C trace context of the newest activation.
        started_at: Milliseconds since the epoch.
        updated_at: Milliseconds since the epoch.
    """

    id: str
    parent_id: str | None = None
    job_id: str
    run_id: str
    sequence: int = 0
    state: State = State.INIT
    status: CheckpointStatus = "init"
    step_number: int
    step_limit: int
    own_steps: int = 0
    limits: Limits | None = None
    budget_notice: float = 0.0
    is_budget_renewed: bool = False
    exhausted: ExhaustedBudget | None = None
    expert: ExpertRef
    provider: str
    model: str
    fallback_count: int = 0
    first_model: ModelRef | None = None
    messages: tuple[Message, ...] = ()
    usage: Usage = Field(default_factory=Usage)
    context_window: int | None = None
    replaced_replies: int = 0
    context_tokens: int = 0
    context_window_usage: float | None = None
    delegated_by: DelegatedBy | None = None
    delegate_to: tuple[Delegation, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    started_tool_calls: frozenset[str] = frozenset()
    tool_results: tuple[ToolResult, ...] = ()
    is_completion_accepted: bool = False
    is_answer_pending: bool = False
    verifications: tuple[VerificationResult, ...] = ()
    refused_completions: int = 0
    text: str = ""
    is_typed: bool = False
    todos: TodoList = Field(default_factory=TodoList)
    retry_count: int = 0
    retry_delay_seconds: float = 0.0
    error: RunError | None = None
    trace_parent: str | None = None
    started_at: int
    updated_at: int

    @property
    def is_final(self) -> bool:
        """Whether the run has stopped, for good or until someone resumes it."""
        return self.state is State.STOPPED

    @property
    def output(self) -> Any:
        """The value of a typed answer; `None` without one."""
        return json.loads(self.text) if self.is_typed else None

    @property
    def media(self) -> tuple[ExpertMedia, ...]:
        """The images and files that the model has made since it was last spoken to."""
        return tuple(part for reply in self._latest_replies() for part in reply.media)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The sources of what the model has said since it was last spoken to."""
        return tuple(each for reply in self._latest_replies() for each in reply.citations)

    def _latest_replies(self) -> list[ExpertMessage]:
        heard = takewhile(lambda each: not isinstance(each, UserMessage), reversed(self.messages))
        replies = [message for message in heard if isinstance(message, ExpertMessage)]
        return replies[::-1]

    @property
    def pending_tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that have no result yet, in order of execution."""
        answered = {result.id for result in self.tool_results}
        return tuple(call for call in self.tool_calls if call.id not in answered)

    def pending(self, kind: ToolKind) -> tuple[ToolCall, ...]:
        """The unanswered calls of one kind."""
        return tuple(call for call in self.pending_tool_calls if call.kind == kind)


class Job(FrozenModel):
    """One request of a user and everything that was done for it, as listings show it.

    `status` is that of the newest root run; a job that no process drives although
    it has not stopped is `interrupted`. Times are in milliseconds since the epoch.
    """

    id: str
    status: JobStatus
    coordinator_expert_key: str
    query: str = ""
    total_steps: int = 0
    usage: Usage = Field(default_factory=Usage)
    run_count: int = 0
    started_at: int
    updated_at: int
    finished_at: int | None = None


JOB_STATUS_OF: dict[CheckpointStatus, JobStatus] = {
    "init": "running",
    "proceeding": "running",
    "stoppedByDelegate": "running",
    "completed": "completed",
    "stoppedByInteractiveTool": "stoppedByInteractiveTool",
    "stoppedByExceededMaxSteps": "stoppedByMaxSteps",
    "stoppedByExceededBudget": "stoppedByBudget",
    "stoppedByError": "stoppedByError",
    "stoppedByCancellation": "stoppedByCancellation",
}
