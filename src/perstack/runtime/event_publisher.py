"""Publishes events that are not stored: streamed replies and the state of skills."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from perstack.core import transient_events as ev
from perstack.core.elicitation import ElicitationReply
from perstack.core.events import Stamp
from perstack.runtime.elicitations import PendingElicitations
from perstack.runtime.ports import Listener
from perstack.runtime.telemetry_port import RunSpan

StampFactory = Callable[[], Stamp]


class TransientPublisher:
    """Sends transient events of one run to the listener. Satisfies `Deltas` and `SkillListener`."""

    def __init__(
        self, listener: Listener, span: RunSpan, stamp: StampFactory, questions: PendingElicitations
    ) -> None:
        self._listener = listener
        self._questions = questions
        self._span = span
        self._stamp = stamp
        self._ordinal = 0
        self._reasoning: list[str] = []
        self._text: list[str] = []

    def initialized(self, details: dict[str, Any]) -> None:
        """This process drives the run from now on."""
        self._publish(lambda head: ev.InitializeRuntime(**head, **details))

    def context_nearly_full(self, context_window: int, usage: float) -> None:
        """The last generation has filled most of the context window."""
        self._publish(
            lambda head: ev.ContextWindowNearlyFull(
                **head, context_window=context_window, context_window_usage=usage
            )
        )

    def reasoning(self, delta: str) -> None:
        """A piece of thinking."""
        if not self._reasoning:
            self._publish(lambda head: ev.StartStreamingReasoning(**head))
        self._reasoning.append(delta)
        self._publish(lambda head: ev.StreamReasoning(**head, delta=delta))

    def text(self, delta: str) -> None:
        """A piece of text; thinking is over when it begins."""
        self._finish_reasoning()
        if not self._text:
            self._publish(lambda head: ev.StartStreamingRunResult(**head))
        self._text.append(delta)
        self._publish(lambda head: ev.StreamRunResult(**head, delta=delta))

    def finish_streaming(self) -> None:
        """The reply is complete, or has broken off."""
        self._finish_reasoning()
        if self._text:
            text, self._text = "".join(self._text), []
            self._publish(lambda head: ev.CompleteStreamingRunResult(**head, text=text))

    def connecting(self, skill_name: str, skill_type: str) -> AbstractContextManager[None]:
        """Measures one attempt to connect."""
        return self._span.skill_connection(skill_name, skill_type)

    def starting(self, skill_name: str, command: str, args: Sequence[str]) -> None:
        """A server process is about to be started."""
        self._publish(
            lambda head: ev.SkillStarting(
                **head, skill_name=skill_name, command=command, args=tuple(args)
            )
        )

    def connected(
        self, skill_name: str, server_info: dict[str, Any] | None, durations_ms: dict[str, float]
    ) -> None:
        """A skill is ready."""
        phases: dict[str, Any] = {
            f"{phase}DurationMs": round(value, 1) for phase, value in durations_ms.items()
        }
        self._publish(
            lambda head: ev.SkillConnected(
                **head, skill_name=skill_name, server_info=server_info, **phases
            )
        )

    def stderr(self, skill_name: str, line: str) -> None:
        """A server wrote a line to its stderr."""
        self._publish(lambda head: ev.SkillStderr(**head, skill_name=skill_name, message=line))

    async def elicit(
        self, skill_name: str, message: str, schema: dict[str, Any]
    ) -> ElicitationReply:
        """A server asks the user."""
        with self._questions.ask(skill_name, message, schema) as pending:
            question_id = pending.question.id
            self._publish(
                lambda head: ev.SkillAsked(
                    **head,
                    skill_name=skill_name,
                    question_id=question_id,
                    message=message,
                    answer_schema=schema,
                )
            )
            try:
                reply = await pending.wait()
            finally:
                action = pending.reply.action
                self._publish(
                    lambda head: ev.SkillAnswered(
                        **head, skill_name=skill_name, question_id=question_id, action=action
                    )
                )
        return reply

    def disconnected(self, skill_name: str) -> None:
        """A connection is closed."""
        self._publish(lambda head: ev.SkillDisconnected(**head, skill_name=skill_name))

    def _finish_reasoning(self) -> None:
        if self._reasoning:
            text, self._reasoning = "".join(self._reasoning), []
            self._publish(lambda head: ev.CompleteStreamingReasoning(**head, text=text))

    def _publish(
        self, make: Callable[[dict[str, Any]], ev.StreamingEvent | ev.RuntimeEvent]
    ) -> None:
        self._ordinal += 1
        self._listener(make({"stamp": self._stamp(), "ordinal": self._ordinal}), None)
