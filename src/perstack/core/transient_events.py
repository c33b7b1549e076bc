"""Events that are never stored: a reply as it streams, and what happens around a run.

They matter to current subscribers only.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from perstack.core.events import Event, RunEvent
from perstack.models import FrozenModel


class TransientEvent(Event):
    """Something worth watching that changes no checkpoint.

    `ordinal` makes its id unique after the event it follows.
    """

    ordinal: int

    @property
    def id(self) -> str:
        """Globally unique."""
        return f"{self.stamp.run_id}-{self.stamp.sequence}.{self.ordinal}"


class StartStreamingReasoning(TransientEvent):
    """The model begins to think."""

    type: Literal["startStreamingReasoning"] = "startStreamingReasoning"


class StreamReasoning(TransientEvent):
    """A piece of thinking."""

    type: Literal["streamReasoning"] = "streamReasoning"
    delta: str


class CompleteStreamingReasoning(TransientEvent):
    """The model has thought; `text` is the whole of it."""

    type: Literal["completeStreamingReasoning"] = "completeStreamingReasoning"
    text: str


class StartStreamingRunResult(TransientEvent):
    """The model begins to answer in text."""

    type: Literal["startStreamingRunResult"] = "startStreamingRunResult"


class StreamRunResult(TransientEvent):
    """A piece of text."""

    type: Literal["streamRunResult"] = "streamRunResult"
    delta: str


class CompleteStreamingRunResult(TransientEvent):
    """The text is complete."""

    type: Literal["completeStreamingRunResult"] = "completeStreamingRunResult"
    text: str


StreamingEvent = Annotated[
    StartStreamingReasoning
    | StreamReasoning
    | CompleteStreamingReasoning
    | StartStreamingRunResult
    | StreamRunResult
    | CompleteStreamingRunResult,
    Field(discriminator="type"),
]


class AnsweredCall(FrozenModel):
    """The user's answer with which a run goes on."""

    tool_name: str
    tool_call_id: str
    text: str


class InitializeRuntime(TransientEvent):
    """A process starts or resumes a run; `timeout` is in milliseconds, for one generation.

    `query` is what the run is told first, `interactive_tool_call` what it is answered.
    """

    type: Literal["initializeRuntime"] = "initializeRuntime"
    runtime_version: str
    expert_name: str
    experts: tuple[str, ...]
    model: str
    max_steps: int
    max_retries: int
    timeout: int
    query: str | None = None
    interactive_tool_call: AnsweredCall | None = None


class ContextWindowNearlyFull(TransientEvent):
    """The last generation has filled 80 % of the model's context window or more.

    Attributes:
        context_window: Tokens that the model can take.
        context_window_usage: The used part of them, from 0 to 1.
    """

    type: Literal["contextWindowNearlyFull"] = "contextWindowNearlyFull"
    context_window: int
    context_window_usage: float


class SkillStarting(TransientEvent):
    """A skill's server is about to be started."""

    type: Literal["skillStarting"] = "skillStarting"
    skill_name: str
    command: str
    args: tuple[str, ...] = ()


class SkillConnected(TransientEvent):
    """A skill is ready; durations are in milliseconds."""

    type: Literal["skillConnected"] = "skillConnected"
    skill_name: str
    server_info: dict[str, Any] | None = None
    spawn_duration_ms: float | None = None
    handshake_duration_ms: float | None = None
    tool_discovery_duration_ms: float | None = None
    connect_duration_ms: float | None = None
    total_duration_ms: float | None = None


class SkillStderr(TransientEvent):
    """A line that a skill's server wrote to its stderr."""

    type: Literal["skillStderr"] = "skillStderr"
    skill_name: str
    message: str


class SkillAsked(TransientEvent):
    """A skill's server asks the user in the middle of a call, which waits for the answer."""

    type: Literal["skillAsked"] = "skillAsked"
    skill_name: str
    question_id: str
    message: str
    answer_schema: dict[str, Any]


class SkillAnswered(TransientEvent):
    """A skill's question is settled. What was answered is for its server alone."""

    type: Literal["skillAnswered"] = "skillAnswered"
    skill_name: str
    question_id: str
    action: Literal["accept", "decline", "cancel"]


class SkillDisconnected(TransientEvent):
    """A skill's connection is closed."""

    type: Literal["skillDisconnected"] = "skillDisconnected"
    skill_name: str


RuntimeEvent = Annotated[
    InitializeRuntime
    | ContextWindowNearlyFull
    | SkillStarting
    | SkillConnected
    | SkillStderr
    | SkillAsked
    | SkillAnswered
    | SkillDisconnected,
    Field(discriminator="type"),
]

PerstackEvent = RunEvent | StreamingEvent | RuntimeEvent
