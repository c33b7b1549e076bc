"""What becomes of a reply of the model, or of a failure of its provider: one event each."""

from collections.abc import Collection

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import (
    ExpertMessage,
    Message,
    TextPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    Usage,
    UserMessage,
    media_note,
)
from perstack.definition.model import ModelChoice
from perstack.errors import ModelError, PerstackError
from perstack.runtime import control
from perstack.runtime.ports import Generation
from perstack.runtime.run import Run

FIRST_RETRY_DELAY_SECONDS = 1.0
MAX_RETRY_DELAY_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 600.0
CONTENT_FILTER = "ContentFilter"
"""The name of the error of a run whose reply was withheld."""

MAX_RETRIES_EXCEEDED = "MaxRetriesExceeded"
"""The name of the error of a run whose replies were of no use again and again."""

TURN_PAUSED = "The provider paused its turn, which goes on"
OUTPUT_LIMIT_REACHED = "The reply was cut at the output limit"
_EMPTY_REPLY = "Your reply had neither text nor a tool call. Call a tool, or {completion}."
_TRUNCATED_CALL = (
    "The reply was cut at the output limit, so this call is incomplete and was not made. "
    "Use smaller pieces."
)
_TRUNCATED_TEXT = (
    "Your reply was cut at the output limit. Go on from where it broke off, in smaller pieces."
)


async def reply_event(run: Run, checkpoint: Checkpoint, generation: Generation) -> ev.RunEvent:
    """The event of a reply: calls, an answer, or why it cannot be used."""
    seen = run.call_ids.of(checkpoint.messages)
    message = _expert_message(checkpoint, generation, seen)
    usage = generation.usage
    if generation.finish_reason == "paused" and not message.tool_calls:
        return ev.Retry(
            stamp=run.stamp(),
            reason=TURN_PAUSED,
            new_messages=(message,),
            usage=usage,
            finish_reason=generation.finish_reason,
        )
    if generation.finish_reason == "contentFilter":
        error = ev.RunError(
            name=CONTENT_FILTER, message="The provider's content filter withheld the reply."
        )
        return ev.StopRunByError(stamp=run.stamp(), error=error, usage=usage)
    if generation.finish_reason == "length":
        return _retry_or_stop(
            run, checkpoint, OUTPUT_LIMIT_REACHED, _truncation_messages(message), generation
        )
    if message.tool_calls:
        toolbox = await run.toolbox()
        targets = tuple(
            ev.ToolTarget(
                tool_call_id=call.id,
                skill_name=call.skill_name,
                kind=call.kind,
                answer_schema=call.answer_schema,
            )
            for call in toolbox.match(message.tool_calls)
        )
        return ev.CallTools(stamp=run.stamp(), new_message=message, targets=targets, usage=usage)
    if generation.text.strip() or generation.media:
        return _handle_text_answer(run, checkpoint, message, generation)
    is_shown = control.ATTEMPT_COMPLETION in run.expert.base_tools
    completion = "attemptCompletion if you have finished" if is_shown else "say what your answer is"
    text = _EMPTY_REPLY.format(completion=completion)
    reminder = UserMessage(contents=(TextPart(text=text),))
    return _retry_or_stop(
        run, checkpoint, "No tool call or text generated", (reminder,), generation
    )


def _handle_text_answer(
    run: Run, checkpoint: Checkpoint, message: ExpertMessage, generation: Generation
) -> ev.RunEvent:
    text = control.reply_text((*checkpoint.messages, message))
    if not text.strip():
        text = "\n".join(map(media_note, message.media))
    answer, mismatch = control.answer_from_text(text, run.expert.tool.output_schema)
    if mismatch is not None:
        new_messages = (message, UserMessage(contents=(TextPart(text=mismatch),)))
        return _retry_or_stop(run, checkpoint, mismatch, new_messages, generation)
    if run.expert.verifications:
        return ev.StartVerification(stamp=run.stamp(), new_message=message, usage=generation.usage)
    return ev.CompleteRun(
        stamp=run.stamp(),
        text=answer.text,
        is_typed=answer.is_typed,
        new_message=message,
        usage=generation.usage,
    )


def _expert_message(
    checkpoint: Checkpoint, generation: Generation, seen: Collection[str]
) -> ExpertMessage:
    text = TextPart(text=generation.text, citations=generation.citations or None)
    return ExpertMessage(
        contents=(
            *generation.thinking,
            *((generation.provider_part,) if generation.provider_part else ()),
            *((text,) if generation.text else ()),
            *generation.media,
            *_with_unique_ids(checkpoint, generation, seen),
        )
    )


def _with_unique_ids(
    checkpoint: Checkpoint, generation: Generation, seen: Collection[str]
) -> list[ToolCallPart]:
    """The calls of a reply, each with an id that no other call of the conversation has.

    Providers have been seen to leave ids empty or to repeat them, and an answer needs exactly one
    call to belong to.
    """
    calls: list[ToolCallPart] = []
    own: set[str] = set()
    for position, call in enumerate(generation.tool_calls):
        call_id = call.tool_call_id
        if not call_id or call_id in seen or call_id in own:
            call_id = f"call-{checkpoint.sequence}-{position}"
        own.add(call_id)
        calls.append(call.model_copy(update={"tool_call_id": call_id}))
    return calls


def _truncation_messages(message: ExpertMessage) -> tuple[Message, ...]:
    if message.tool_calls:
        results = tuple(
            ToolResultPart(
                tool_call_id=call.tool_call_id,
                tool_name=call.tool_name,
                contents=(TextPart(text=_TRUNCATED_CALL),),
                is_error=True,
            )
            for call in message.tool_calls
        )
        return (message, ToolMessage(contents=results))
    reminder = UserMessage(contents=(TextPart(text=_TRUNCATED_TEXT),))
    return (message, reminder) if message.text else (reminder,)


def model_error_event(run: Run, checkpoint: Checkpoint, error: ModelError) -> ev.RunEvent:
    """The event of a failure: another attempt, another model, or the stop of the run."""
    usage = run.take_reported_usage() or Usage()
    if not error.is_retryable:
        return ev.StopRunByError(stamp=run.stamp(), error=run_error(error), usage=usage)
    if checkpoint.retry_count >= run.job.max_retries:
        if run.next_fallback is not None:
            return _fall_back(run, run.next_fallback, error, usage)
        stop_event = _stop_after_retries(run, error.message, error.name, error.status)
        return stop_event.model_copy(update={"usage": usage})
    return ev.Retry(
        stamp=run.stamp(),
        reason=error.message,
        usage=usage,
        error=run_error(error),
        delay_seconds=_retry_delay(
            checkpoint.retry_count, error.retry_after_seconds, run.job.jitter()
        ),
    )


def _fall_back(run: Run, fallback: ModelChoice, error: ModelError, usage: Usage) -> ev.Retry:
    return ev.Retry(
        stamp=run.stamp(),
        reason=error.message,
        usage=usage,
        error=run_error(error),
        fallback=ev.ModelRef(
            provider=fallback.provider.provider_name,
            model=fallback.model,
            context_window=fallback.facts.context_window,
        ),
        max_retries=run.job.max_retries,
    )


def _retry_or_stop(
    run: Run,
    checkpoint: Checkpoint,
    reason: str,
    new_messages: tuple[Message, ...],
    generation: Generation,
) -> ev.RunEvent:
    if checkpoint.retry_count >= run.job.max_retries:
        stop_event = _stop_after_retries(run, reason, MAX_RETRIES_EXCEEDED, None)
        expert_message = next(
            (message for message in new_messages if isinstance(message, ExpertMessage)), None
        )
        return stop_event.model_copy(
            update={
                "unusable_message": expert_message,
                "usage": generation.usage,
                "finish_reason": generation.finish_reason,
            }
        )
    return ev.Retry(
        stamp=run.stamp(),
        reason=reason,
        new_messages=new_messages,
        usage=generation.usage,
        finish_reason=generation.finish_reason,
    )


def _stop_after_retries(run: Run, reason: str, name: str, status: int | None) -> ev.StopRunByError:
    message = f"Max retries ({run.job.max_retries}) exceeded: {reason}"
    error = ev.RunError(name=name, message=message, status_code=status)
    return ev.StopRunByError(stamp=run.stamp(), error=error, max_retries=run.job.max_retries)


def _retry_delay(retry_count: int, retry_after: float | None, jitter: float) -> float:
    if retry_after is not None:
        return min(retry_after, MAX_RETRY_AFTER_SECONDS)
    full: float = min(FIRST_RETRY_DELAY_SECONDS * 2**retry_count, MAX_RETRY_DELAY_SECONDS)
    return round(full * (0.5 + jitter / 2), 3)


def run_error(error: PerstackError) -> ev.RunError:
    """The error as an event records it."""
    if isinstance(error, ModelError):
        return ev.RunError(
            name=error.name,
            message=str(error),
            status_code=error.status,
            is_retryable=error.is_retryable,
        )
    return ev.RunError(name=type(error).__name__, message=str(error))
