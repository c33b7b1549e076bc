"""The facts of a run.

A `RunEvent` changes a checkpoint and is stored. Folding them rebuilds the checkpoint exactly, so no
event carries one or repeats what an earlier event said. `docs/events.md` lists them with their JSON
form; `core.transient_events` has the events that are not stored.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from perstack.core.messages import (
    ExpertMessage,
    FinishReason,
    InstructionMessage,
    Message,
    ToolKind,
    ToolResult,
    Usage,
    replace_text,
)
from perstack.core.todo import TodoList
from perstack.core.verification import VerificationResult
from perstack.models import FrozenModel


class Stamp(FrozenModel):
    """Where and when something happened.

    `sequence` counts a run's events from 1; `timestamp` is in milliseconds since the epoch;
    `step_number` is the ordinal of the step within its job, so it is unique also when delegates run
    side by side.
    """

    job_id: str
    run_id: str
    expert_key: str
    step_number: int
    sequence: int
    timestamp: int


class Event(FrozenModel):
    """Anything that happened in a run."""

    stamp: Stamp


class CheckpointId(NamedTuple):
    """The run of a checkpoint, and the number of events that led to it."""

    run_id: str
    sequence: str


def parse_checkpoint_id(checkpoint_id: str) -> CheckpointId:
    """Split an id; `sequence` is any text if it is none that this product made."""
    run_id, _, sequence = checkpoint_id.rpartition("-")
    return CheckpointId(run_id, sequence)


class StoredEvent(Event):
    """A fact that changes a checkpoint.

    Its id is also the id of the checkpoint that it leads to.

    `activation_id` is set on the first event of each run in an activation: the work on a job by the
    process that held its lease. Events of older versions lack it.
    """

    activation_id: str | None = None

    @property
    def id(self) -> str:
        """Globally unique, made of the run id and the position within the run."""
        return f"{self.stamp.run_id}-{self.stamp.sequence}"


class ExpertRef(FrozenModel):
    """Which expert a run belongs to."""

    key: str
    name: str
    version: str


class DelegatedBy(FrozenModel):
    """The tool call of another run that this run answers."""

    expert: ExpertRef
    tool_call_id: str
    tool_name: str
    checkpoint_id: str
    run_id: str


class Delegation(FrozenModel):
    """One delegate call of a run and the child run that answers it."""

    expert: ExpertRef
    tool_call_id: str
    tool_name: str
    query: str
    run_id: str


INTERNAL_ERROR = "InternalError"
"""The name of an error that is a bug in perstack."""


class RunError(FrozenModel):
    """Why a generation or a run failed, free of secrets."""

    name: str
    message: str
    status_code: int | None = None
    is_retryable: bool = False


Limit = Literal["steps", "tokens", "costUsd", "seconds"]
"""What a budget limits."""


class Limits(FrozenModel):
    """What a run and its delegates may have used in all when it stops; `None` is no limit.

    Attributes:
        seconds: Counted from the beginning or the resumption of the run.
    """

    steps: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


class BudgetNotice(FrozenModel):
    """What the expert is told of its budget.

    Attributes:
        share: The used part from which on it is told, from 0 to 1.
        text: As it reads it, after the results of its tools.
    """

    share: float
    text: str


class StartRun(StoredEvent):
    """A run begins, from nothing or as the continuation of a checkpoint (`continued_from`).

    `step_limit` is the last step number that the job may use for this request; `limits` are those
    of the run and its delegates; `new_instruction` replaces the instruction of the conversation.
    """

    type: Literal["startRun"] = "startRun"
    expert: ExpertRef
    provider: str
    model: str
    input_messages: tuple[Message, ...]
    step_limit: int
    limits: Limits | None = None
    context_window: int | None = None
    delegated_by: DelegatedBy | None = None
    continued_from: str | None = None
    new_instruction: InstructionMessage | None = None
    definition_hash: str | None = None
    trace_parent: str | None = None


class ResumeFromStop(StoredEvent):
    """A stopped run continues; with `continued_from`, a branch begins at that checkpoint.

    `step_limit` and `limits` replace those of before; `limits` without any value end them.
    """

    type: Literal["resumeFromStop"] = "resumeFromStop"
    continued_from: str | None = None
    step_limit: int | None = None
    limits: Limits | None = None
    trace_parent: str | None = None


class StartGeneration(StoredEvent):
    """The model is about to be asked."""

    type: Literal["startGeneration"] = "startGeneration"


class ModelRef(FrozenModel):
    """A model, as a run knows it.

    Attributes:
        context_window: Tokens that it can take, if known.
    """

    provider: str
    model: str
    context_window: int | None = None


class Retry(StoredEvent):
    """A generation gave nothing usable and is tried again.

    After a provider failure (`error`) the same step is generated again once `delay_seconds` have
    passed; after an unusable reply `new_messages` tell the model what was wrong and the next step
    follows. A reply that the provider has paused is kept in `new_messages`, and goes on in the next
    step.

    `finish_reason` is why the model ended an unusable reply. Events of older versions lack it.
    `fallback` is the model that stands in from here on, once `max_retries` retries were of no use.
    """

    type: Literal["retry"] = "retry"
    reason: str
    error: RunError | None = None
    new_messages: tuple[Message, ...] = ()
    usage: Usage = Field(default_factory=Usage)
    delay_seconds: float = 0.0
    finish_reason: FinishReason | None = None
    fallback: ModelRef | None = None
    max_retries: int | None = None


class ToolTarget(FrozenModel):
    """Which tool a call of a message means.

    The form of an answer is kept with the question, which may outlive the definition that it is of.
    """

    tool_call_id: str
    skill_name: str
    kind: ToolKind
    answer_schema: dict[str, Any] | None = None


class CallTools(StoredEvent):
    """The model asked for tools.

    `targets` has one entry for each call of `new_message`, in the order of execution.
    """

    type: Literal["callTools"] = "callTools"
    new_message: ExpertMessage
    targets: tuple[ToolTarget, ...]
    usage: Usage


class StartToolCalls(StoredEvent):
    """These calls are about to be executed: from here on their effect may have happened."""

    type: Literal["startToolCalls"] = "startToolCalls"
    tool_call_ids: tuple[str, ...]


class RecordToolResult(StoredEvent):
    """One tool call is answered; `todos` is the new list if the call changed it.

    `whole_text` is there when the text of the result is shortened: all of it.
    """

    type: Literal["recordToolResult"] = "recordToolResult"
    tool_result: ToolResult
    todos: TodoList | None = None
    whole_text: str | None = None

    @property
    def whole_result(self) -> ToolResult:
        """The result before it was shortened, its texts joined to one."""
        if self.whole_text is None:
            return self.tool_result
        return replace_text(self.tool_result, self.whole_text)


class AttemptCompletion(StoredEvent):
    """The expert wants to finish.

    Accepted, the run ends; refused, the expert reads why in the result.
    """

    type: Literal["attemptCompletion"] = "attemptCompletion"
    tool_result: ToolResult
    accepted: bool


class StartVerification(StoredEvent):
    """The expert wants to finish, and what it declares is checked before it may.

    `new_message` is there when its answer is a plain text reply of the model, with the `usage` of
    that; else it has called attemptCompletion, and the call is not answered yet.
    """

    type: Literal["startVerification"] = "startVerification"
    new_message: ExpertMessage | None = None
    usage: Usage = Field(default_factory=Usage)


class RecordVerification(StoredEvent):
    """One check was made."""

    type: Literal["recordVerification"] = "recordVerification"
    verification: VerificationResult


class FinishMcpTools(StoredEvent):
    """All calls to skills are answered; delegates or questions to the user remain."""

    type: Literal["finishMcpTools"] = "finishMcpTools"


class CallDelegate(StoredEvent):
    """Child runs are assigned to the delegate calls of the message."""

    type: Literal["callDelegate"] = "callDelegate"
    delegate_to: tuple[Delegation, ...]


class SkipDelegates(StoredEvent):
    """The message has no delegate call that is unanswered."""

    type: Literal["skipDelegates"] = "skipDelegates"


class CallInteractiveTool(StoredEvent):
    """A question is put to the user."""

    type: Literal["callInteractiveTool"] = "callInteractiveTool"
    tool_call_id: str


class ProceedToInteractiveTools(StoredEvent):
    """After a stop, questions to the user are still open."""

    type: Literal["proceedToInteractiveTools"] = "proceedToInteractiveTools"


class ResolveToolResults(StoredEvent):
    """Every tool call of the message is answered."""

    type: Literal["resolveToolResults"] = "resolveToolResults"


class FinishToolCall(StoredEvent):
    """The results become a tool message of the conversation, in call order."""

    type: Literal["finishToolCall"] = "finishToolCall"


class ResumeToolCalls(StoredEvent):
    """After a stop, calls of the last message are still unanswered and are executed again."""

    type: Literal["resumeToolCalls"] = "resumeToolCalls"


class CompactHistory(StoredEvent):
    """The beginning of a conversation is replaced by a summary; earlier events keep it.

    Attributes:
        summary: As the model reads it, after the instruction and the user's first message.
        kept_messages: How many of the newest messages stay.
        usage: Of the generation that wrote the summary.
    """

    type: Literal["compactHistory"] = "compactHistory"
    summary: str
    kept_messages: int
    usage: Usage = Field(default_factory=Usage)


class FinishAllToolCalls(StoredEvent):
    """After a stop, no call is open."""

    type: Literal["finishAllToolCalls"] = "finishAllToolCalls"


class ContinueToNextStep(StoredEvent):
    """A step is over; the next one has the number `next_step_number`.

    `notice` is what the expert is told of its budget before that.
    """

    type: Literal["continueToNextStep"] = "continueToNextStep"
    next_step_number: int
    notice: BudgetNotice | None = None


class CompleteRun(StoredEvent):
    """The run ends with an answer.

    `new_message` is there when the answer is a plain text reply of the model. `is_typed` means that
    `text` is the JSON of a value that fits what the expert declares to answer.
    """

    type: Literal["completeRun"] = "completeRun"
    text: str
    is_typed: bool = False
    new_message: ExpertMessage | None = None
    usage: Usage = Field(default_factory=Usage)


class StopRunByInteractiveTool(StoredEvent):
    """The run waits for an answer of the user."""

    type: Literal["stopRunByInteractiveTool"] = "stopRunByInteractiveTool"


class StopRunByDelegate(StoredEvent):
    """The run waits for its delegates."""

    type: Literal["stopRunByDelegate"] = "stopRunByDelegate"


class StopRunByExceededMaxSteps(StoredEvent):
    """The job has used all its steps."""

    type: Literal["stopRunByExceededMaxSteps"] = "stopRunByExceededMaxSteps"


class StopRunByExceededBudget(StoredEvent):
    """A budget does not allow what comes next; the run can be resumed with a new one.

    Attributes:
        limit: What is used up.
        budget_run_id: Whose budget it is: that of the run, or of one that delegated to it.
        message: What is used up, for people.
        usage: What the provider had reported of a generation that was under way.
    """

    type: Literal["stopRunByExceededBudget"] = "stopRunByExceededBudget"
    limit: Limit
    budget_run_id: str
    message: str
    usage: Usage | None = None


class StopRunByError(StoredEvent):
    """The run cannot continue.

    `unusable_message` is the last of the replies that were of no use, if these are why; it does not
    become a part of the conversation; `finish_reason` is why the model ended it. `max_retries` is
    the limit that was reached, if it was. Events of older versions lack both.
    """

    type: Literal["stopRunByError"] = "stopRunByError"
    error: RunError
    unusable_message: ExpertMessage | None = None
    usage: Usage = Field(default_factory=Usage)
    finish_reason: FinishReason | None = None
    max_retries: int | None = None


class StopRunByCancellation(StoredEvent):
    """The caller, or the end of the process, stopped the run; it can be resumed.

    `usage` is what the provider had reported of a generation that was under way.
    """

    type: Literal["stopRunByCancellation"] = "stopRunByCancellation"
    reason: str
    usage: Usage | None = None


RunEvent = Annotated[
    StartRun
    | ResumeFromStop
    | StartGeneration
    | Retry
    | CallTools
    | StartToolCalls
    | RecordToolResult
    | AttemptCompletion
    | StartVerification
    | RecordVerification
    | FinishMcpTools
    | CallDelegate
    | SkipDelegates
    | CallInteractiveTool
    | ProceedToInteractiveTools
    | ResolveToolResults
    | FinishToolCall
    | ResumeToolCalls
    | CompactHistory
    | FinishAllToolCalls
    | ContinueToNextStep
    | CompleteRun
    | StopRunByInteractiveTool
    | StopRunByDelegate
    | StopRunByExceededMaxSteps
    | StopRunByExceededBudget
    | StopRunByError
    | StopRunByCancellation,
    Field(discriminator="type"),
]


RUN_EVENT: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)


def is_cancellation(event: RunEvent) -> bool:
    """Whether an event stops a run in the middle of whatever it does."""
    is_timeout = isinstance(event, StopRunByExceededBudget) and event.limit == "seconds"
    return is_timeout or isinstance(event, StopRunByCancellation)


def generation_usage(event: RunEvent) -> Usage | None:
    """The tokens of the generation that an event ends; `None` if it ends none."""
    if isinstance(
        event,
        CallTools
        | CompactHistory
        | StartVerification
        | Retry
        | CompleteRun
        | StopRunByExceededBudget
        | StopRunByError
        | StopRunByCancellation,
    ):
        return event.usage
    return None
