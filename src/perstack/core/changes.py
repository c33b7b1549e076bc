"""What each event changes in a checkpoint, its id, state and times apart.

Pure; which events are legal is in `core.machine`.
"""

from typing import Any, assert_never

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, ExhaustedBudget, State
from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    Message,
    TextPart,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolResultPart,
    Usage,
    UserMessage,
    text_result,
)


def build_tool_message(
    messages: tuple[Message, ...], results: tuple[ToolResult, ...]
) -> ToolMessage:
    """The results as one message, in the order of the calls of the last expert message."""
    by_id = {result.id: result for result in results}
    last = messages[-1]
    calls = last.tool_calls if isinstance(last, ExpertMessage) else ()
    return ToolMessage(
        contents=tuple(
            ToolResultPart(
                tool_call_id=call.tool_call_id,
                tool_name=call.tool_name,
                contents=by_id[call.tool_call_id].result,
                is_error=by_id[call.tool_call_id].is_error,
            )
            for call in calls
        )
    )


def close_open_calls(checkpoint: Checkpoint) -> tuple[Message, ...]:
    """The conversation of a stopped run, made fit for a new message: open calls get an answer."""
    if not checkpoint.tool_calls:
        return checkpoint.messages
    unfinished = tuple(
        text_result(
            call,
            "The run was stopped before this call finished; its effect is unknown.",
            is_error=True,
        )
        for call in checkpoint.pending_tool_calls
    )
    closing = build_tool_message(checkpoint.messages, checkpoint.tool_results + unfinished)
    return (*checkpoint.messages, closing)


def changes_of(checkpoint: Checkpoint, event: ev.RunEvent) -> dict[str, Any]:  # noqa: C901, PLR0911, PLR0912 - one flat case per event is the readable form of an exhaustive match
    match event:
        case ev.StartRun():
            return _start_run(checkpoint, event)
        case ev.ResumeFromStop():
            return _resume(checkpoint, event)
        case ev.StartGeneration():
            return {"retry_delay_seconds": 0.0}
        case ev.Retry():
            return _retry(checkpoint, event)
        case ev.CallTools():
            return _call_tools(checkpoint, event)
        case ev.StartToolCalls():
            return {"started_tool_calls": checkpoint.started_tool_calls | set(event.tool_call_ids)}
        case ev.RecordToolResult():
            todos = checkpoint.todos if event.todos is None else event.todos
            return {"tool_results": (*checkpoint.tool_results, event.tool_result), "todos": todos}
        case ev.AttemptCompletion():
            return _attempt_completion(checkpoint, event)
        case ev.StartVerification():
            return _start_verification(checkpoint, event)
        case ev.RecordVerification():
            return {"verifications": (*checkpoint.verifications, event.verification)}
        case ev.CompactHistory():
            return _compact_history(checkpoint, event)
        case ev.CallDelegate():
            return {"delegate_to": event.delegate_to}
        case ev.CallInteractiveTool():
            return {"started_tool_calls": checkpoint.started_tool_calls | {event.tool_call_id}}
        case ev.FinishToolCall():
            return {"messages": (*checkpoint.messages, _results_message(checkpoint)), **_NO_CALLS}
        case ev.ContinueToNextStep():
            return _continue_to_next_step(checkpoint, event)
        case ev.CompleteRun():
            return _complete(checkpoint, event)
        case ev.StopRunByInteractiveTool():
            return {"status": "stoppedByInteractiveTool"}
        case ev.StopRunByDelegate():
            return {"status": "stoppedByDelegate"}
        case ev.StopRunByExceededMaxSteps():
            return {"status": "stoppedByExceededMaxSteps"}
        case ev.StopRunByExceededBudget():
            return _exceed_budget(checkpoint, event)
        case ev.StopRunByCancellation():
            usage = event.usage or Usage()
            return {"status": "stoppedByCancellation", "usage": checkpoint.usage + usage}
        case ev.StopRunByError():
            usage = checkpoint.usage + event.usage
            return {"status": "stoppedByError", "error": event.error, "usage": usage}
        case (
            ev.FinishMcpTools()
            | ev.SkipDelegates()
            | ev.ProceedToInteractiveTools()
            | ev.ResolveToolResults()
            | ev.ResumeToolCalls()
            | ev.FinishAllToolCalls()
        ):
            return {}
        case _:
            assert_never(event)


_NO_CALLS: dict[str, Any] = {
    "tool_calls": (),
    "started_tool_calls": frozenset[str](),
    "tool_results": (),
    "delegate_to": (),
    "is_completion_accepted": False,
}


def _start_run(checkpoint: Checkpoint, event: ev.StartRun) -> dict[str, Any]:
    history = close_open_calls(checkpoint)
    if event.new_instruction is not None:
        conversation = (
            message for message in history if not isinstance(message, InstructionMessage)
        )
        history = (event.new_instruction, *conversation)
    return {
        "status": "proceeding",
        "expert": event.expert,
        "provider": event.provider,
        "model": event.model,
        "messages": (*history, *event.input_messages),
        "step_limit": event.step_limit,
        "own_steps": 1,
        "limits": event.limits,
        "budget_notice": 0.0,
        "is_budget_renewed": checkpoint.budget_notice > 0,
        "exhausted": None,
        "context_window": event.context_window,
        "delegated_by": event.delegated_by,
        "trace_parent": event.trace_parent,
        "text": "",
        "is_typed": False,
        "error": None,
        "retry_count": 0,
        "retry_delay_seconds": 0.0,
        "is_answer_pending": False,
        "verifications": (),
        "refused_completions": 0,
        **_NO_CALLS,
    }


def _resume(checkpoint: Checkpoint, event: ev.ResumeFromStop) -> dict[str, Any]:
    return {
        "status": "proceeding",
        "error": None,
        "retry_count": 0,
        "refused_completions": 0,
        "exhausted": None,
        **_renew_budget(checkpoint, event),
        "step_limit": checkpoint.step_limit if event.step_limit is None else event.step_limit,
        "trace_parent": event.trace_parent or checkpoint.trace_parent,
        **({} if checkpoint.status == "stoppedByDelegate" else first_model(checkpoint)),
    }


def _renew_budget(checkpoint: Checkpoint, event: ev.ResumeFromStop) -> dict[str, Any]:
    """The limits from now on.

    A run that a budget had stopped goes on because there is more of it now, unless it is a delegate
    that has used its own: that never changes.
    """
    limits = checkpoint.limits if event.limits is None else event.limits
    exhausted = checkpoint.exhausted
    is_renewed = (
        limits != checkpoint.limits
        or checkpoint.status == "stoppedByExceededMaxSteps"
        or (
            exhausted is not None
            and (checkpoint.delegated_by is None or exhausted.run_id != checkpoint.run_id)
        )
    )
    return {
        "limits": None if limits == ev.Limits() else limits,
        "budget_notice": 0.0 if is_renewed else checkpoint.budget_notice,
        "is_budget_renewed": checkpoint.is_budget_renewed
        or (is_renewed and checkpoint.budget_notice > 0),
    }


def _continue_to_next_step(checkpoint: Checkpoint, event: ev.ContinueToNextStep) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "step_number": event.next_step_number,
        "own_steps": checkpoint.own_steps + 1,
    }
    if event.notice is not None:
        message = UserMessage(contents=(TextPart(text=event.notice.text),))
        changes["messages"] = (*checkpoint.messages, message)
        changes["budget_notice"] = event.notice.share
        changes["is_budget_renewed"] = False
    return changes


def _compact_history(checkpoint: Checkpoint, event: ev.CompactHistory) -> dict[str, Any]:
    count = len(checkpoint.messages) - event.kept_messages
    replaced, kept = checkpoint.messages[:count], checkpoint.messages[count:]
    instruction = tuple(each for each in replaced if isinstance(each, InstructionMessage))
    first_request = tuple(each for each in replaced if isinstance(each, UserMessage))[:1]
    summary = UserMessage(contents=(TextPart(text=event.summary),))
    replies = sum(isinstance(message, ExpertMessage) for message in replaced)
    return {
        "messages": (*instruction, *first_request, summary, *kept),
        "replaced_replies": checkpoint.replaced_replies + replies,
        "usage": checkpoint.usage + event.usage,
        "context_tokens": 0,
        "context_window_usage": None,
        "retry_count": 0,
        "retry_delay_seconds": 0.0,
    }


def _exceed_budget(checkpoint: Checkpoint, event: ev.StopRunByExceededBudget) -> dict[str, Any]:
    exhausted = ExhaustedBudget(
        limit=event.limit, run_id=event.budget_run_id, message=event.message
    )
    return {
        "status": "stoppedByExceededBudget",
        "exhausted": exhausted,
        "usage": checkpoint.usage + (event.usage or Usage()),
    }


def _retry(checkpoint: Checkpoint, event: ev.Retry) -> dict[str, Any]:
    return {
        "messages": (*checkpoint.messages, *event.new_messages),
        # A pause is no failure.
        "retry_count": checkpoint.retry_count + (event.finish_reason != "paused"),
        "retry_delay_seconds": event.delay_seconds,
        "usage": checkpoint.usage + event.usage,
        **(_context(checkpoint, event.usage) if _keeps_reply(event) else {}),
        "is_answer_pending": False,
        "refused_completions": _count_refused_completions(checkpoint, is_refused=True),
        **(_fall_back(checkpoint, event.fallback) if event.fallback else {}),
    }


def _fall_back(checkpoint: Checkpoint, fallback: ev.ModelRef) -> dict[str, Any]:
    first = ev.ModelRef(
        provider=checkpoint.provider,
        model=checkpoint.model,
        context_window=checkpoint.context_window,
    )
    return {
        **_model(checkpoint, fallback),
        "fallback_count": checkpoint.fallback_count + 1,
        "first_model": checkpoint.first_model or first,
        "retry_count": 0,
    }


def _model(checkpoint: Checkpoint, model: ev.ModelRef) -> dict[str, Any]:
    tokens = checkpoint.context_tokens
    return {
        "provider": model.provider,
        "model": model.model,
        "context_window": model.context_window,
        "context_window_usage": _share(tokens, model.context_window) if tokens else None,
    }


def first_model(checkpoint: Checkpoint) -> dict[str, Any]:
    """What makes the run begin again with the first of its models."""
    if checkpoint.first_model is None:
        return {}
    first = _model(checkpoint, checkpoint.first_model)
    return {**first, "fallback_count": 0, "first_model": None}


def _keeps_reply(event: ev.Retry) -> bool:
    """Whether a reply that is of no use is a part of the conversation."""
    has_reply = any(isinstance(message, ExpertMessage) for message in event.new_messages)
    return has_reply and event.usage.total_tokens > 0


def _count_refused_completions(checkpoint: Checkpoint, *, is_refused: bool) -> int:
    """What ends an attempt to complete counts only where that was verified."""
    is_verified = checkpoint.state is State.VERIFYING_COMPLETION
    return checkpoint.refused_completions + (is_refused and is_verified)


def _attempt_completion(checkpoint: Checkpoint, event: ev.AttemptCompletion) -> dict[str, Any]:
    return {
        "tool_results": (*checkpoint.tool_results, event.tool_result),
        "is_completion_accepted": event.accepted,
        "refused_completions": _count_refused_completions(
            checkpoint, is_refused=not event.accepted
        ),
    }


def _start_verification(checkpoint: Checkpoint, event: ev.StartVerification) -> dict[str, Any]:
    started: dict[str, Any] = {"verifications": ()}
    if event.new_message is None:
        return started
    return {
        **started,
        "messages": (*checkpoint.messages, event.new_message),
        "is_answer_pending": True,
        "usage": checkpoint.usage + event.usage,
        **_context(checkpoint, event.usage),
        "retry_count": 0,
    }


def _call_tools(checkpoint: Checkpoint, event: ev.CallTools) -> dict[str, Any]:
    parts = {part.tool_call_id: part for part in event.new_message.tool_calls}
    calls = tuple(
        ToolCall(
            id=target.tool_call_id,
            skill_name=target.skill_name,
            kind=target.kind,
            answer_schema=target.answer_schema,
            tool_name=parts[target.tool_call_id].tool_name,
            args=parts[target.tool_call_id].args,
            args_error=parts[target.tool_call_id].args_error,
        )
        for target in event.targets
    )
    return {
        "messages": (*checkpoint.messages, event.new_message),
        **_NO_CALLS,
        "tool_calls": calls,
        "usage": checkpoint.usage + event.usage,
        **_context(checkpoint, event.usage),
        "retry_count": 0,
    }


def _complete(checkpoint: Checkpoint, event: ev.CompleteRun) -> dict[str, Any]:
    messages = checkpoint.messages
    if event.new_message is not None:
        messages = (*messages, event.new_message)
    elif not checkpoint.is_answer_pending:
        answer = ExpertMessage(contents=(TextPart(text=event.text),) if event.text else ())
        messages = (*messages, _results_message(checkpoint), answer)
    return {
        "status": "completed",
        "messages": messages,
        "text": event.text,
        "is_typed": event.is_typed,
        "usage": checkpoint.usage + event.usage,
        **(_context(checkpoint, event.usage) if event.usage.total_tokens else {}),
        "retry_count": 0,
        "is_answer_pending": False,
        **_NO_CALLS,
    }


def _context(checkpoint: Checkpoint, usage: Usage) -> dict[str, Any]:
    """How full the context is after a generation."""
    tokens = usage.input_tokens + usage.output_tokens
    return {
        "context_tokens": tokens,
        "context_window_usage": _share(tokens, checkpoint.context_window),
    }


def _share(tokens: int, window: int | None) -> float | None:
    return min(tokens / window, 1.0) if window else None


def _results_message(checkpoint: Checkpoint) -> ToolMessage:
    return build_tool_message(checkpoint.messages, checkpoint.tool_results)
