"""From what was recorded of a generation back to what the model did."""

import re

from perstack.core import events as ev
from perstack.core.messages import ExpertMessage, Message, ThinkingPart, Usage
from perstack.errors import ConfigError, ModelError, SkillError
from perstack.runtime.ports import FinishReason, Generation
from perstack.runtime.states import CONTENT_FILTER, CUT_OFF, RETRIES_SPENT
from perstack.runtime.verifying import VERIFICATION_FAILED

Reply = Generation | Exception
PROVIDER = "recorded"
_SPENT = re.compile(r"Max retries \((\d+)\) exceeded: (.*)", re.DOTALL)


def reply_of(event: ev.RunEvent) -> Reply | None:
    """What a generation gave or raised, if this event tells of one."""
    match event:
        case ev.CallTools():
            return _said(event.new_message, event.usage, "toolCalls")
        case ev.CompleteRun() | ev.StartVerification():
            message = event.new_message
            return None if message is None else _said(message, event.usage, "stop")
        case ev.Retry(error=None):
            return _unusable(event.reason, event.new_messages, event.usage)
        case ev.Retry(error=error, delay_seconds=delay) if error is not None:
            return _failed(error, retry_after_seconds=delay)
        case ev.StopRunByError():
            return _stopped(event)
        case _:
            return None


def _said(message: ExpertMessage, usage: Usage, reason: FinishReason) -> Generation:
    thinking = tuple(part for part in message.contents if isinstance(part, ThinkingPart))
    return Generation(
        text=message.text,
        thinking=thinking,
        tool_calls=message.tool_calls,
        finish_reason=reason,
        usage=usage,
    )


def _unusable(reason: str, told: tuple[Message, ...], usage: Usage) -> Generation:
    spoken = next((each for each in told if isinstance(each, ExpertMessage)), None)
    finish: FinishReason = "length" if reason == CUT_OFF else "stop"
    return _said(spoken or ExpertMessage(contents=()), usage, finish)


def _failed(error: ev.RunError, retry_after_seconds: float | None = None) -> ModelError:
    return ModelError(
        error.message,
        name=error.name,
        provider=PROVIDER,
        status=error.status_code,
        is_retryable=error.is_retryable,
        retry_after_seconds=retry_after_seconds,
    )


def _stopped(event: ev.StopRunByError) -> Reply | None:
    error = event.error
    if error.name == VERIFICATION_FAILED:
        return None
    if error.name == CONTENT_FILTER:
        return Generation(finish_reason="contentFilter", usage=event.usage)
    if error.name == SkillError.__name__:
        return SkillError(error.message, skill="")
    if error.name == ConfigError.__name__:
        return ConfigError(error.message)
    if error.name == ev.BUG:
        return bug(error)
    spent = _SPENT.fullmatch(error.message)
    if spent is None:
        return _failed(error)
    reason = spent[2]
    if error.name == RETRIES_SPENT:
        said = (event.unusable_message,) if event.unusable_message else ()
        return _unusable(reason, said, event.usage)
    again = error.model_copy(update={"message": reason, "is_retryable": True})
    return _failed(again)


def retries_allowed(event: ev.RunEvent) -> int | None:
    """How often a generation could be tried again, if this event tells."""
    if not isinstance(event, ev.StopRunByError):
        return None
    spent = _SPENT.fullmatch(event.error.message)
    return int(spent[1]) if spent else None


def bug(error: ev.RunError) -> Exception:
    """An exception of the type that the record names, which nobody foresaw."""
    name = error.message.rpartition(" ")[2]
    kind: type[Exception] = type(name, (Exception,), {})
    return kind(error.message)
