"""The `Telemetry` port on the OpenTelemetry API: one span for each activation of a run."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, TraceFlags, Tracer

from perstack import __version__
from perstack.core.checkpoint import Checkpoint
from perstack.core.events import parse_checkpoint_id
from perstack.definition.model import Expert, McpSseSkill, ToolFilter
from perstack.redaction import Redactor
from perstack.runtime.telemetry_port import RunSpan
from perstack.telemetry import semconv
from perstack.telemetry.content import ContentCapture
from perstack.telemetry.run_span_recorder import RunSpanRecorder

TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class OtelTelemetry:
    """Satisfies the `Telemetry` port.

    Attributes:
        tracer: Creates spans; the API's default does nothing until a provider is set.
        redactor: Removes secrets; those of each expert that runs are added.
        capture: Records content; `None` records none.
        environment: The values of `requiredEnv`.
        fallback_parent: Parent of runs without a current span.
        keeps_baggage: Whether baggage is sent to skill servers.
    """

    tracer: Tracer
    redactor: Redactor = field(default_factory=Redactor)
    capture: ContentCapture | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    fallback_parent: Context | None = None
    keeps_baggage: bool = False

    @contextmanager
    def run(
        self, checkpoint: Checkpoint, expert: Expert, resumed_from: str | None
    ) -> Generator[RunSpan]:
        previous = None if resumed_from is None else parse_trace_parent(resumed_from)
        span = self.tracer.start_span(
            f"invoke_agent {expert.key}",
            context=self._parent_context(),
            attributes=_start_attributes(checkpoint, expert),
            links=None
            if previous is None
            else [Link(previous, {semconv.LINK_TYPE: "resumed_from"})],
            record_exception=False,
            set_status_on_exception=False,
        )
        if span.is_recording():
            self.redactor.add(expert_secrets(expert, self.environment))
            if resumed_from is not None:
                span.set_attributes(_resume_attributes(checkpoint, previous))
        token = context.attach(trace.set_span_in_context(span))
        recorder = RunSpanRecorder(
            self.tracer,
            span,
            checkpoint,
            redactor=self.redactor,
            capture=self.capture,
            keeps_baggage=self.keeps_baggage,
        )
        try:
            yield recorder
        except BaseException as error:
            recorder.fail(error)
            raise
        finally:
            recorder.close()
            context.detach(token)
            span.end()

    def _parent_context(self) -> Context | None:
        has_parent = trace.get_current_span().get_span_context().is_valid
        return None if has_parent else self.fallback_parent


def get_perstack_tracer(provider: trace.TracerProvider | None = None) -> Tracer:
    """The tracer of this package, from `provider` or from the global one."""
    return trace.get_tracer(
        semconv.SCOPE,
        __version__,
        tracer_provider=provider,
        schema_url=semconv.SCHEMA_URL,
    )


def parse_trace_parent(text: str) -> SpanContext | None:
    """The span context of a W3C `traceparent`; `None` if it is invalid."""
    matched = TRACE_PARENT.match(text)
    if matched is None:
        return None
    trace_id, span_id, flags = (int(group, 16) for group in matched.groups())
    parsed = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return parsed if parsed.is_valid else None


def expert_secrets(expert: Expert, environment: Mapping[str, str]) -> list[str]:
    """Values of `requiredEnv` and headers of remote skills."""
    secrets: list[str] = []
    for skill in expert.skills.values():
        if isinstance(skill, ToolFilter):
            secrets += [environment[name] for name in skill.required_env if name in environment]
        if isinstance(skill, McpSseSkill):
            secrets += skill.headers.values()
    return secrets


def _start_attributes(checkpoint: Checkpoint, expert: Expert) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        semconv.OPERATION_NAME: "invoke_agent",
        semconv.AGENT_NAME: expert.key,
        semconv.CONVERSATION_ID: checkpoint.job_id,
        semconv.JOB_ID: checkpoint.job_id,
        semconv.RUN_ID: checkpoint.run_id,
    }
    if checkpoint.model:
        attributes[semconv.PROVIDER_NAME] = semconv.provider_name(checkpoint.provider)
        attributes[semconv.REQUEST_MODEL] = checkpoint.model
    if checkpoint.delegated_by is not None:
        attributes[semconv.RUN_PARENT_ID] = checkpoint.delegated_by.run_id
    if expert.description is not None:
        attributes[semconv.AGENT_DESCRIPTION] = expert.description
    return attributes


def _resume_attributes(checkpoint: Checkpoint, previous: SpanContext | None) -> dict[str, Any]:
    # The link as attributes too, for back ends that show no links; a branch names its origin.
    source = (checkpoint.sequence == 0 and checkpoint.parent_id) or checkpoint.id
    attributes = {
        semconv.RESUMED_FROM_CHECKPOINT_ID: source,
        semconv.RESUMED_FROM_RUN_ID: parse_checkpoint_id(source).run_id,
    }
    if previous is not None:
        attributes[semconv.RESUMED_FROM_TRACE_ID] = f"{previous.trace_id:032x}"
    return attributes
