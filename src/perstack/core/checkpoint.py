"""The whole state of a run as one frozen value, and the job that its runs add up to."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from perstack.core.events import DelegatedBy, Delegation, ExpertRef, RunError
from perstack.core.messages import Message, ToolCall, ToolResult, Usage
from perstack.core.todo import TodoList
from perstack.definition.record import Record


class State(StrEnum):
    """What a run does next. `STOPPED` is final; the other nine each have one `decide` function."""

    INIT = "init"
    PREPARING_FOR_STEP = "preparingForStep"
    RESUMING_FROM_STOP = "resumingFromStop"
    GENERATING_TOOL_CALL = "generatingToolCall"
    CALLING_MCP_TOOLS = "callingMcpTools"
    CALLING_DELEGATES = "callingDelegates"
    CALLING_INTERACTIVE_TOOLS = "callingInteractiveTools"
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
    "stoppedByError",
    "stoppedByCancellation",
]

JobStatus = Literal[
    "running",
    "completed",
    "stoppedByInteractiveTool",
    "stoppedByMaxSteps",
    "stoppedByError",
    "stoppedByCancellation",
    "interrupted",
]


class Checkpoint(Record):
    """A run after some event, whose id it bears.

    `parent_id` is the checkpoint that the run continues or branched from.

    `tool_calls` are the calls of the last expert message in order of execution,
    `started_tool_calls` those whose effect may have happened, `tool_results` the answers so far in
    order of arrival. `usage` is this run's own; delegates count theirs.
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
    expert: ExpertRef
    provider: str
    model: str
    messages: tuple[Message, ...] = ()
    usage: Usage = Field(default_factory=Usage)
    context_window: int | None = None
    context_window_usage: float | None = None
    delegated_by: DelegatedBy | None = None
    delegate_to: tuple[Delegation, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    started_tool_calls: frozenset[str] = frozenset()
    tool_results: tuple[ToolResult, ...] = ()
    is_completion_accepted: bool = False
    text: str = ""
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
    def pending_tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that have no result yet, in order of execution."""
        answered = {result.id for result in self.tool_results}
        return tuple(call for call in self.tool_calls if call.id not in answered)

    def pending(self, kind: str) -> tuple[ToolCall, ...]:
        """The unanswered calls of one kind."""
        return tuple(call for call in self.pending_tool_calls if call.kind == kind)


class Job(Record):
    """One request of a user and everything that was done for it, as listings show it.

    `status` is that of the newest run that nobody delegated; a job that no process drives although
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
    "stoppedByError": "stoppedByError",
    "stoppedByCancellation": "stoppedByCancellation",
}
