"""The spans of one activation of a run: steps, generations, tool calls, verifications."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import Token
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.messages import ToolCall, ToolResult
from perstack.core.verification import VerificationResult
from perstack.definition.verification import Verification
from perstack.errors import ModelError
from perstack.redaction import Redactor
from perstack.runtime.ports import Generation, GenerationRequest
from perstack.runtime.telemetry_port import GenerationSpan, ToolCallSpan, VerificationSpan
from perstack.telemetry import semconv
from perstack.telemetry.content import ContentCapture

STATES_BETWEEN_STEPS = frozenset({State.INIT, State.STOPPED, State.FINISHING_STEP})
INTERRUPTED = "interrupted"
MAX_NAME_CHARACTERS = 128
MAX_REASON_CHARACTERS = 256


def mark_failed(span: Span, error_type: str) -> None:
    span.set_attribute(semconv.ERROR_TYPE, error_type)
    span.set_status(StatusCode.ERROR)


def error_type_of(error: BaseException) -> str:
    if isinstance(error, ModelError):
        return error.name
    # Cancellation has no base class common to the event loops, only a name.
    if not isinstance(error, Exception) and type(error).__name__.startswith("Cancel"):
        return semconv.CANCELLED
    return type(error).__qualname__


class RunSpanRecorder:
    """Satisfies the `RunSpan` port. The caller ends `span` after `close`.

    `span` is that of the run, and the current one; `checkpoint` is in the middle of a step after a
    crash.
    """

    def __init__(
        self,
        tracer: Tracer,
        span: Span,
        checkpoint: Checkpoint,
        *,
        redactor: Redactor,
        capture: ContentCapture | None,
        keeps_baggage: bool,
    ) -> None:
        self._tracer = tracer
        self._span = span
        self._first_checkpoint = checkpoint
        self._last_checkpoint = checkpoint
        self._redactor = redactor
        self._capture = capture if span.is_recording() else None
        self._keeps_baggage = keeps_baggage
        self._step: Span | None = None
        self._step_token: Token[Context] | None = None
        self._step_count = 0
        self._has_delegated = False
        self._is_failed = False
        self._task_id = anyio.get_current_task().id
        is_waiting = checkpoint.status == "stoppedByDelegate"
        if checkpoint.state not in STATES_BETWEEN_STEPS or is_waiting:
            self._open_step(checkpoint.step_number)

    @property
    def trace_parent(self) -> str | None:
        span_context = self._span.get_span_context()
        if not span_context.is_valid:
            return None
        trace_id, span_id = span_context.trace_id, span_context.span_id
        return f"00-{trace_id:032x}-{span_id:016x}-{span_context.trace_flags:02x}"

    def observe(self, event: ev.RunEvent, checkpoint: Checkpoint) -> None:
        self._last_checkpoint = checkpoint
        match event:
            case ev.StartRun():
                self._record_start(event)
                self._open_step(event.stamp.step_number)
            case ev.ResumeFromStop():
                is_in_step = checkpoint.tool_calls or checkpoint.is_answer_pending
                if is_in_step and self._step is None:
                    self._open_step(checkpoint.step_number)
            case ev.ContinueToNextStep():
                self._close_step("delegate" if self._has_delegated else "continue")
                self._open_step(event.next_step_number)
            case ev.Retry():
                self._record_retry(event, checkpoint)
            case ev.StopRunByDelegate():
                self._has_delegated = True
                self._record_checkpoint()
            case _:
                self._observe_stop(event, checkpoint)

    @contextmanager
    def skill_connection(self, skill_name: str, skill_type: str) -> Generator[None]:
        # The run is the parent, although skills are connected during its first step.
        is_in_call = trace.get_current_span() not in (self._step, self._span)
        parent = None if is_in_call else trace.set_span_in_context(self._span)
        attributes = {
            semconv.JOB_ID: self._first_checkpoint.job_id,
            semconv.SKILL_NAME: skill_name,
            semconv.SKILL_TYPE: skill_type,
        }
        name = f"skill.connect {skill_name}"
        with self._start_as_current_span(name, attributes, self._outbound_context(parent)):
            yield

    @contextmanager
    def generation(self, request: GenerationRequest, attempt: int) -> Generator[GenerationSpan]:
        attributes = _request_attributes(request, attempt)
        attributes |= self._common_attributes(request.expert_key)
        name, parent = f"chat {request.choice.model}", self._step_context()
        with self._start_as_current_span(name, attributes, parent, SpanKind.CLIENT) as span:
            capture = self._capture if span.is_recording() else None
            if capture is not None:
                self._redactor.add(request.choice.provider.setting.headers.values())
                capture.record_conversation(span, request.messages)
            yield _GenerationRecorder(span, capture)

    @contextmanager
    def tool_call(self, call: ToolCall, expert_key: str) -> Generator[ToolCallSpan]:
        # The model chooses name and id freely.
        tool_name = self._redactor.redact_prefix(call.tool_name, MAX_NAME_CHARACTERS)
        attributes = {
            semconv.OPERATION_NAME: "execute_tool",
            semconv.TOOL_NAME: tool_name,
            semconv.TOOL_TYPE: "function",
            semconv.TOOL_CALL_ID: self._redactor.redact_prefix(call.id, MAX_NAME_CHARACTERS),
            semconv.SKILL_NAME: call.skill_name,
            semconv.TOOL_KIND: call.kind,
            **self._common_attributes(expert_key),
        }
        parent = self._step_context()
        if call.kind == "mcp":
            parent = self._outbound_context(parent)
        with self._start_as_current_span(f"execute_tool {tool_name}", attributes, parent) as span:
            capture = self._capture if span.is_recording() else None
            if capture is not None:
                capture.record_arguments(span, call)
            yield _ToolCallRecorder(span, capture)

    @contextmanager
    def verification(self, verification: Verification) -> Generator[VerificationSpan]:
        name = self._redactor.redact_prefix(verification.name, MAX_NAME_CHARACTERS)
        attributes = {
            semconv.VERIFICATION_NAME: name,
            semconv.VERIFICATION_PRIORITY: verification.priority,
            **self._common_attributes(self._last_checkpoint.expert.key),
        }
        parent = self._step_context()
        with self._start_as_current_span(f"verify {name}", attributes, parent) as span:
            yield _VerificationRecorder(span)

    def fail(self, error: BaseException) -> None:
        """Record an exception, unless a stop was observed, which says more."""
        if not self._is_failed:
            self._is_failed = True
            mark_failed(self._span, error_type_of(error))

    def close(self) -> None:
        """End open spans and set the totals; call it in the task that created the recorder."""
        if self._last_checkpoint.state is not State.STOPPED and not self._is_failed:
            mark_failed(self._span, INTERRUPTED)
        self._close_step(None)
        if self._step_token is not None:
            context.detach(self._step_token)
        usage, initial = self._last_checkpoint.usage, self._first_checkpoint.usage
        self._span.set_attributes(
            {
                semconv.RUN_STATUS: self._last_checkpoint.status,
                semconv.RUN_STEPS: self._step_count,
                semconv.USAGE_INPUT_TOKENS: usage.input_tokens - initial.input_tokens,
                semconv.USAGE_OUTPUT_TOKENS: usage.output_tokens - initial.output_tokens,
            }
        )
        if usage.cost_usd is not None:
            cost = usage.cost_usd - (initial.cost_usd or 0.0)
            self._span.set_attribute(semconv.COST_USD, cost)

    def _observe_stop(self, event: ev.RunEvent, checkpoint: Checkpoint) -> None:
        match event:
            case ev.StopRunByInteractiveTool():
                for call in checkpoint.pending("interactive"):
                    attributes = {
                        semconv.INTERACTIVE_TOOL: call.tool_name,
                        semconv.INTERACTIVE_CALL_ID: call.id,
                    }
                    self._span.add_event(semconv.INTERACTIVE_STOP_EVENT, attributes)
                self._close_step("interactive")
            case ev.CompleteRun():
                if self._capture is not None:
                    self._capture.record_answer(self._span, event.text)
                self._close_step("finish")
            case ev.StopRunByExceededMaxSteps():
                self._close_step("exceededMaxSteps")
            case ev.StopRunByExceededBudget():
                self._span.set_attribute(semconv.BUDGET_LIMIT, event.limit)
                self._close_step("exceededBudget")
            case ev.StopRunByError():
                self._record_failure("error", event.error.name)
            case ev.StopRunByCancellation():
                self._record_failure(semconv.CANCELLED, semconv.CANCELLED)
            case _:
                pass

    def _record_start(self, event: ev.StartRun) -> None:
        self._span.set_attributes(
            {
                semconv.PROVIDER_NAME: semconv.provider_name(event.provider),
                semconv.REQUEST_MODEL: event.model,
                semconv.MAX_STEPS: event.step_limit - event.stamp.step_number + 1,
            }
        )
        if event.delegated_by is not None:
            self._span.set_attribute(semconv.RUN_PARENT_ID, event.delegated_by.run_id)
        if self._capture is not None:
            self._capture.record_conversation(self._span, event.input_messages)

    def _record_retry(self, event: ev.Retry, checkpoint: Checkpoint) -> None:
        attributes: dict[str, Any] = {
            semconv.RETRY_ATTEMPT: checkpoint.retry_count,
            semconv.RETRY_DELAY_MS: round(event.delay_seconds * 1000),
            semconv.RETRY_REASON: self._redactor.redact_prefix(event.reason, MAX_REASON_CHARACTERS),
        }
        if event.error is not None:
            attributes[semconv.ERROR_TYPE] = event.error.name
        if event.fallback is not None:
            self._record_fallback(event.fallback, attributes)
            return
        (self._step or self._span).add_event(semconv.RETRY_EVENT, attributes)

    def _record_fallback(self, fallback: ev.ModelRef, failure: Mapping[str, Any]) -> None:
        attributes = {
            semconv.PROVIDER_NAME: semconv.provider_name(fallback.provider),
            semconv.REQUEST_MODEL: fallback.model,
            semconv.RETRY_REASON: failure[semconv.RETRY_REASON],
            semconv.ERROR_TYPE: failure.get(semconv.ERROR_TYPE, ""),
        }
        (self._step or self._span).add_event(semconv.FALLBACK_EVENT, attributes)

    def _record_failure(self, finish: str, error_type: str) -> None:
        self._is_failed = True
        mark_failed(self._span, error_type)
        if self._step is not None:
            mark_failed(self._step, error_type)
        self._close_step(finish)

    def _open_step(self, number: int) -> None:
        self._close_step(None)
        parent = trace.set_span_in_context(self._span)
        attributes = {
            semconv.JOB_ID: self._first_checkpoint.job_id,
            semconv.RUN_ID: self._first_checkpoint.run_id,
            semconv.STEP_NUMBER: number,
        }
        self._step = self._tracer.start_span("step", context=parent, attributes=attributes)
        if self._is_in_own_task():
            self._step_token = context.attach(trace.set_span_in_context(self._step))
        self._step_count += 1
        self._has_delegated = False

    def _close_step(self, finish: str | None) -> None:
        if self._step is None:
            return
        if finish is not None:
            self._step.set_attribute(semconv.STEP_FINISH, finish)
            self._record_checkpoint()
        self._step.end()
        self._step = None
        if self._step_token is not None and self._is_in_own_task():
            context.detach(self._step_token)
            self._step_token = None

    def _step_context(self) -> Context | None:
        # Explicit, because tool calls run in tasks of their own.
        return None if self._step is None else trace.set_span_in_context(self._step)

    def _is_in_own_task(self) -> bool:
        # A context variable can only be reset in the task that set it.
        return anyio.get_current_task().id == self._task_id

    def _record_checkpoint(self) -> None:
        if self._step is not None:
            self._step.add_event(
                semconv.CHECKPOINT_EVENT, {semconv.CHECKPOINT_ID: self._last_checkpoint.id}
            )

    def _common_attributes(self, expert_key: str) -> dict[str, Any]:
        return {
            semconv.AGENT_NAME: expert_key,
            semconv.CONVERSATION_ID: self._first_checkpoint.job_id,
            semconv.JOB_ID: self._first_checkpoint.job_id,
        }

    def _outbound_context(self, parent: Context | None) -> Context | None:
        # Skill servers may be third parties.
        return parent if self._keeps_baggage else baggage.clear(parent)

    @contextmanager
    def _start_as_current_span(
        self,
        name: str,
        attributes: Mapping[str, Any],
        parent: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Generator[Span]:
        span = self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes)
        token = context.attach(trace.set_span_in_context(span, parent))
        try:
            yield span
        except BaseException as error:
            mark_failed(span, error_type_of(error))
            raise
        finally:
            context.detach(token)
            span.end()


@dataclass(frozen=True, slots=True)
class _GenerationRecorder:
    """Satisfies the `GenerationSpan` port."""

    _span: Span
    _capture: ContentCapture | None

    def finished(self, generation: Generation) -> None:
        if not self._span.is_recording():
            return
        usage = generation.usage
        attributes: dict[str, Any] = {
            semconv.RESPONSE_FINISH_REASONS: [semconv.finish_reason(generation.finish_reason)],
            semconv.USAGE_INPUT_TOKENS: usage.input_tokens,
            semconv.USAGE_OUTPUT_TOKENS: usage.output_tokens,
            semconv.USAGE_CACHE_READ_TOKENS: usage.cached_input_tokens,
            semconv.USAGE_CACHE_CREATION_TOKENS: usage.cache_creation_input_tokens,
            semconv.USAGE_CACHE_WRITE_TOKENS: usage.cache_creation_input_tokens,
            semconv.USAGE_REASONING_TOKENS: usage.reasoning_tokens,
            semconv.COST_USD: usage.cost_usd,
            semconv.RESPONSE_ID: generation.response_id,
            semconv.RESPONSE_MODEL: generation.response_model,
            semconv.RESPONSE_TIME_TO_FIRST_CHUNK: generation.first_chunk_seconds,
            semconv.PROVIDER_TOOL_CALLS: generation.provider_part
            and generation.provider_part.tools,
        }
        self._span.set_attributes({k: v for k, v in attributes.items() if v is not None})
        if self._capture is not None:
            self._capture.record_generation(self._span, generation)

    def failed(self, error_type: str) -> None:
        mark_failed(self._span, error_type)


@dataclass(frozen=True, slots=True)
class _ToolCallRecorder:
    """Satisfies the `ToolCallSpan` port."""

    _span: Span
    _capture: ContentCapture | None

    def finished(self, result: ToolResult) -> None:
        if result.is_error:
            mark_failed(self._span, semconv.TOOL_ERROR)
        if self._capture is not None:
            self._capture.record_result(self._span, result)


@dataclass(frozen=True, slots=True)
class _VerificationRecorder:
    """Satisfies the `VerificationSpan` port."""

    _span: Span

    def finished(self, result: VerificationResult) -> None:
        self._span.set_attribute(semconv.VERIFICATION_PASSED, result.passed)
        if result.exit_code is not None:
            self._span.set_attribute(semconv.VERIFICATION_EXIT_CODE, result.exit_code)
        if not result.passed:
            mark_failed(self._span, semconv.VERIFICATION_FAILED)


def _request_attributes(request: GenerationRequest, attempt: int) -> dict[str, Any]:
    choice = request.choice
    attributes: dict[str, Any] = {
        semconv.OPERATION_NAME: "chat",
        semconv.PROVIDER_NAME: semconv.provider_name(choice.provider.provider_name),
        semconv.REQUEST_MODEL: choice.model,
        semconv.REQUEST_REASONING_LEVEL: str(choice.reasoning_budget),
    }
    if attempt > 1:
        attributes[semconv.LLM_ATTEMPT] = attempt
    if choice.provider.setting.base_url is not None:
        address = urlsplit(choice.provider.setting.base_url)
        attributes[semconv.SERVER_ADDRESS] = address.hostname or ""
        if address.port is not None:
            attributes[semconv.SERVER_PORT] = address.port
    return attributes
