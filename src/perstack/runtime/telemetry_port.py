"""What measures a run, as Protocols with a contract; `telemetry` satisfies them."""

from contextlib import AbstractContextManager
from typing import Protocol

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RunEvent
from perstack.core.messages import ToolCall, ToolResult
from perstack.core.verification import VerificationResult
from perstack.definition.model import Expert
from perstack.definition.verification import Verification
from perstack.runtime.ports import Generation, GenerationRequest


class GenerationSpan(Protocol):
    """The measure of one generation."""

    def finished(self, generation: Generation) -> None:
        """It ended well."""
        ...

    def failed(self, error_type: str) -> None:
        """It ended badly; `error_type` is of low cardinality and free of secrets."""
        ...


class ToolCallSpan(Protocol):
    """The measure of one tool call."""

    def finished(self, result: ToolResult) -> None:
        """It was answered."""
        ...


class VerificationSpan(Protocol):
    """The measure of one check."""

    def finished(self, result: VerificationResult) -> None:
        """It was made."""
        ...


class RunSpan(Protocol):
    """The measure of one activation of a run.

    Its methods are called in the task that drives the run.
    """

    @property
    def trace_parent(self) -> str | None:
        """W3C trace context of the run's span, to be stored for links after a resume."""
        ...

    def observe(self, event: RunEvent, checkpoint: Checkpoint) -> None:
        """An event is durable.

        Opens and closes step spans; the open step is current until the next call.
        """
        ...

    def skill_connection(self, skill_name: str, skill_type: str) -> AbstractContextManager[None]:
        """Current while one skill is being connected.

        An exception that passes through marks it failed.
        """
        ...

    def generation(
        self, request: GenerationRequest, attempt: int
    ) -> AbstractContextManager[GenerationSpan]:
        """Current while the model is asked; `attempt` counts from 1 within the step."""
        ...

    def tool_call(self, call: ToolCall, expert_key: str) -> AbstractContextManager[ToolCallSpan]:
        """Current while a tool call is executed; used in the task that executes it."""
        ...

    def verification(self, verification: Verification) -> AbstractContextManager[VerificationSpan]:
        """Current while one check is made."""
        ...


class Telemetry(Protocol):
    """Makes spans of runs. Never blocks, never fails a run."""

    def run(
        self, checkpoint: Checkpoint, expert: Expert, resumed_from: str | None
    ) -> AbstractContextManager[RunSpan]:
        """Current while a run is active.

        `resumed_from` is the trace context of the activation that it continues.
        """
        ...
