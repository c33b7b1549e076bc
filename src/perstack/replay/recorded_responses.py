"""From what was recorded of a generation back to what the model did."""

import re
from typing import Literal

from perstack.core import events as ev
from perstack.core.messages import ExpertMessage, FinishReason, Message, ThinkingPart, Usage
from perstack.errors import CONTEXT_WINDOW_EXCEEDED, ConfigError, ModelError, SkillError
from perstack.runtime.compaction import SUMMARY_PREFACE
from perstack.runtime.ports import Generation
from perstack.runtime.repetition import REPEATED_CALL
from perstack.runtime.replies import (
    CONTENT_FILTER,
    MAX_RETRIES_EXCEEDED,
    OUTPUT_LIMIT_REACHED,
)
from perstack.runtime.states import VERIFICATION_FAILED

RecordedResponse = Generation | Exception
RECORDED_PROVIDER = "recorded"
_RETRIES_EXCEEDED = re.compile(r"Max retries \((\d+)\) exceeded: (.*)", re.DOTALL)


def recorded_response(
    event: ev.RunEvent, purpose: Literal["step", "summary"] = "step"
) -> RecordedResponse | None:
    """The result or error of the generation that this event records, if any."""
    match event:
        case ev.CompactHistory():
            return _summary(event) if purpose == "summary" else _window_exceeded()
        case ev.CallTools():
            return _generation(event.new_message, event.usage, "toolCalls")
        case ev.CompleteRun() | ev.StartVerification():
            message = event.new_message
            return None if message is None else _generation(message, event.usage, "stop")
        case ev.Retry(error=None):
            finish_reason = event.finish_reason or _finish_reason_from_text(event.reason)
            return _unusable_generation(finish_reason, event.new_messages, event.usage)
        case ev.Retry(error=error, delay_seconds=delay) if error is not None:
            return _model_error(error, retry_after_seconds=delay)
        case ev.StopRunByError():
            return _response_before_stop(event)
        case _:
            return None


def _summary(event: ev.CompactHistory) -> Generation:
    return Generation(text=event.summary.removeprefix(SUMMARY_PREFACE), usage=event.usage)


def _window_exceeded() -> ModelError:
    return ModelError("", name=CONTEXT_WINDOW_EXCEEDED, provider=RECORDED_PROVIDER)


def _generation(message: ExpertMessage, usage: Usage, reason: FinishReason) -> Generation:
    thinking = tuple(part for part in message.contents if isinstance(part, ThinkingPart))
    return Generation(
        text=message.text,
        citations=message.citations,
        thinking=thinking,
        provider_part=message.provider_part,
        media=message.media,
        tool_calls=message.tool_calls,
        finish_reason=reason,
        usage=usage,
    )


def _unusable_generation(
    finish_reason: FinishReason, new_messages: tuple[Message, ...], usage: Usage
) -> Generation:
    expert_message = next((each for each in new_messages if isinstance(each, ExpertMessage)), None)
    return _generation(expert_message or ExpertMessage(contents=()), usage, finish_reason)


def _finish_reason_from_text(reason: str) -> FinishReason:
    """For events of versions that did not record the finish reason."""
    return "length" if reason == OUTPUT_LIMIT_REACHED else "stop"


def _model_error(error: ev.RunError, retry_after_seconds: float | None = None) -> ModelError:
    return ModelError(
        error.message,
        name=error.name,
        provider=RECORDED_PROVIDER,
        status=error.status_code,
        is_retryable=error.is_retryable,
        retry_after_seconds=retry_after_seconds,
    )


def _response_before_stop(event: ev.StopRunByError) -> RecordedResponse | None:
    error = event.error
    if error.name in (VERIFICATION_FAILED, REPEATED_CALL):
        return None
    if error.name == CONTENT_FILTER:
        return Generation(finish_reason="contentFilter", usage=event.usage)
    if error.name == SkillError.__name__:
        return SkillError(error.message, skill="")
    if error.name == ConfigError.__name__:
        return ConfigError(error.message)
    if error.name == ev.INTERNAL_ERROR:
        return unknown_exception(error)
    match = _RETRIES_EXCEEDED.fullmatch(error.message)
    if match is None:
        return _model_error(error)
    reason = match[2]
    if error.name == MAX_RETRIES_EXCEEDED:
        messages = (event.unusable_message,) if event.unusable_message else ()
        finish_reason = event.finish_reason or _finish_reason_from_text(reason)
        return _unusable_generation(finish_reason, messages, event.usage)
    last_error = error.model_copy(update={"message": reason, "is_retryable": True})
    return _model_error(last_error)


def recorded_retry_limit(event: ev.RunEvent) -> int | None:
    """The retry limit of a generation, if this event contains it."""
    if isinstance(event, ev.Retry):
        return event.max_retries
    if not isinstance(event, ev.StopRunByError):
        return None
    if event.max_retries is not None:
        return event.max_retries
    match = _RETRIES_EXCEEDED.fullmatch(event.error.message)
    return int(match[1]) if match else None


def unknown_exception(error: ev.RunError) -> Exception:
    """An unexpected exception of the recorded type."""
    name = error.message.rpartition(" ")[2]
    kind: type[Exception] = type(name, (Exception,), {})
    return kind(error.message)
