"""What a run does in each state: look at the checkpoint, act if need be, return one event.

`DECIDE` at the end has one function for each state. None of them changes the checkpoint; that is
left to `core.machine.evolve`. Whatever a model or a tool does wrong becomes an event or a result,
never an exception.
"""

from collections.abc import Awaitable, Callable

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.messages import (
    ExpertMessage,
    Message,
    TextPart,
    ToolCall,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    Usage,
    UserMessage,
    text_result,
)
from perstack.errors import ConfigError, ModelError, PerstackError, SkillError
from perstack.runtime import control
from perstack.runtime.ports import Generation
from perstack.runtime.run import Run
from perstack.runtime.verifying import attempts_spent, verifying_completion

Decide = Callable[[Run, Checkpoint], Awaitable[ev.RunEvent]]

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 600.0
CONTENT_FILTER = "ContentFilter"
"""The name of the error of a run whose reply was withheld."""

RETRIES_SPENT = "MaxRetriesExceeded"
"""The name of the error of a run whose replies were of no use again and again."""

CUT_OFF = "The reply was cut at the output limit"
_EMPTY_REPLY = (
    "Your reply had neither text nor a tool call. "
    "Call a tool, or attemptCompletion if you have finished."
)
_CUT_CALL = (
    "The reply was cut at the output limit, so this call is incomplete and was not made. "
    "Use smaller pieces."
)
_CUT_TEXT = (
    "Your reply was cut at the output limit. Go on from where it broke off, in smaller pieces."
)
_IN_DOUBT = (
    "The run was interrupted while this call was being executed, so its effect is unknown: "
    "it may have happened wholly, partly or not at all. Check before you call it again."
)


async def init(run: Run, _checkpoint: Checkpoint) -> ev.RunEvent:
    """Begin with messages, or as a branch that goes on where another run stood."""
    opening = run.opening
    if opening.is_mere_continuation:
        return ev.ResumeFromStop(
            stamp=run.stamp(),
            continued_from=opening.continued_from,
            step_limit=run.job.steps.limit,
            trace_parent=run.span.trace_parent,
        )
    expert = ev.ExpertRef(key=run.expert.key, name=run.expert.name, version=run.expert.version)
    return ev.StartRun(
        stamp=run.stamp(),
        expert=expert,
        provider=run.choice.provider.provider_name,
        model=run.choice.model,
        input_messages=opening.messages,
        step_limit=run.job.steps.limit,
        context_window=run.job.model.context_window(run.choice),
        delegated_by=opening.delegated_by,
        continued_from=opening.continued_from,
        new_instruction=opening.instruction,
        definition_hash=run.job.definition_hash,
        trace_parent=run.span.trace_parent,
    )


async def resuming_from_stop(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Take up what the stop left open."""
    if checkpoint.pending("mcp") or checkpoint.pending("delegate"):
        return ev.ResumeToolCalls(stamp=run.stamp())
    if checkpoint.pending("interactive"):
        return ev.ProceedToInteractiveTools(stamp=run.stamp())
    if checkpoint.is_answer_pending:
        return ev.StartVerification(stamp=run.stamp())
    if checkpoint.tool_calls:
        return ev.ResolveToolResults(stamp=run.stamp())
    return ev.FinishAllToolCalls(stamp=run.stamp())


async def preparing_for_step(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Wait if a retry asks for it, then record the intent to generate."""
    if checkpoint.retry_delay_seconds:
        await run.journal.settle()
        await run.job.clock.sleep(checkpoint.retry_delay_seconds)
    return ev.StartGeneration(stamp=run.stamp())


async def generating_tool_call(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Ask the model and make an event of whatever it answers."""
    try:
        generation = await run.generate()
    except ModelError as error:
        return _after_failure(run, checkpoint, error)
    except (SkillError, ConfigError) as error:
        return ev.StopRunByError(stamp=run.stamp(), error=_run_error(error))
    return await _after_reply(run, checkpoint, generation)


async def _after_reply(run: Run, checkpoint: Checkpoint, generation: Generation) -> ev.RunEvent:
    message = _expert_message(checkpoint, generation)
    usage = generation.usage
    if generation.finish_reason == "contentFilter":
        error = ev.RunError(
            name=CONTENT_FILTER, message="The provider's content filter withheld the reply."
        )
        return ev.StopRunByError(stamp=run.stamp(), error=error, usage=usage)
    if generation.finish_reason == "length":
        return _retry_or_stop(run, checkpoint, CUT_OFF, _cut(message), usage)
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
    if generation.text.strip():
        return _after_text(run, checkpoint, message, usage)
    reminder = UserMessage(contents=(TextPart(text=_EMPTY_REPLY),))
    return _retry_or_stop(run, checkpoint, "No tool call or text generated", (reminder,), usage)


def _after_text(
    run: Run, checkpoint: Checkpoint, message: ExpertMessage, usage: Usage
) -> ev.RunEvent:
    answer, misfit = control.plain_answer(message.text, run.expert.tool.output_schema)
    if misfit is not None:
        told = (message, UserMessage(contents=(TextPart(text=misfit),)))
        return _retry_or_stop(run, checkpoint, misfit, told, usage)
    if run.expert.verifications:
        return ev.StartVerification(stamp=run.stamp(), new_message=message, usage=usage)
    return ev.CompleteRun(
        stamp=run.stamp(),
        text=answer.text,
        is_typed=answer.is_typed,
        new_message=message,
        usage=usage,
    )


def _expert_message(checkpoint: Checkpoint, generation: Generation) -> ExpertMessage:
    text = (TextPart(text=generation.text),) if generation.text else ()
    return ExpertMessage(
        contents=(*generation.thinking, *text, *_with_unique_ids(checkpoint, generation))
    )


def _with_unique_ids(checkpoint: Checkpoint, generation: Generation) -> list[ToolCallPart]:
    """The calls of a reply, each with an id that no other call of the conversation has.

    Providers have been seen to leave ids empty or to repeat them, and an answer needs exactly one
    call to belong to.
    """
    spoken = (message for message in checkpoint.messages if message.type == "expertMessage")
    seen = {call.tool_call_id for message in spoken for call in message.tool_calls}
    calls: list[ToolCallPart] = []
    for position, call in enumerate(generation.tool_calls):
        call_id = call.tool_call_id
        if not call_id or call_id in seen:
            call_id = f"call-{checkpoint.sequence}-{position}"
        seen.add(call_id)
        calls.append(call.model_copy(update={"tool_call_id": call_id}))
    return calls


def _cut(message: ExpertMessage) -> tuple[Message, ...]:
    if message.tool_calls:
        results = tuple(
            ToolResultPart(
                tool_call_id=call.tool_call_id,
                tool_name=call.tool_name,
                contents=(TextPart(text=_CUT_CALL),),
                is_error=True,
            )
            for call in message.tool_calls
        )
        return (message, ToolMessage(contents=results))
    reminder = UserMessage(contents=(TextPart(text=_CUT_TEXT),))
    return (message, reminder) if message.text else (reminder,)


def _after_failure(run: Run, checkpoint: Checkpoint, error: ModelError) -> ev.RunEvent:
    if not error.is_retryable:
        return ev.StopRunByError(stamp=run.stamp(), error=_run_error(error))
    if checkpoint.retry_count >= run.job.max_retries:
        return _retries_spent(run, error.message, error.name, error.status)
    return ev.Retry(
        stamp=run.stamp(),
        reason=error.message,
        error=_run_error(error),
        delay_seconds=_delay(checkpoint.retry_count, error.retry_after_seconds, run.job.jitter()),
    )


def _retry_or_stop(
    run: Run, checkpoint: Checkpoint, reason: str, new_messages: tuple[Message, ...], usage: Usage
) -> ev.RunEvent:
    if checkpoint.retry_count >= run.job.max_retries:
        stop = _retries_spent(run, reason, RETRIES_SPENT, None, usage)
        said = next((told for told in new_messages if isinstance(told, ExpertMessage)), None)
        return stop.model_copy(update={"unusable_message": said})
    return ev.Retry(stamp=run.stamp(), reason=reason, new_messages=new_messages, usage=usage)


def _retries_spent(
    run: Run, reason: str, name: str, status: int | None, usage: Usage | None = None
) -> ev.StopRunByError:
    message = f"Max retries ({run.job.max_retries}) exceeded: {reason}"
    error = ev.RunError(name=name, message=message, status_code=status)
    return ev.StopRunByError(stamp=run.stamp(), error=error, usage=usage or Usage())


def _delay(retry_count: int, retry_after: float | None, jitter: float) -> float:
    if retry_after is not None:
        return min(retry_after, LONGEST_RETRY_AFTER_SECONDS)
    full: float = min(FIRST_DELAY_SECONDS * 2**retry_count, LONGEST_DELAY_SECONDS)
    return round(full * (0.5 + jitter / 2), 3)


def _run_error(error: PerstackError) -> ev.RunError:
    if isinstance(error, ModelError):
        return ev.RunError(
            name=error.name,
            message=str(error),
            status_code=error.status,
            is_retryable=error.is_retryable,
        )
    return ev.RunError(name=type(error).__name__, message=str(error))


async def calling_mcp_tools(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Execute the calls of skills side by side, then answer the run's own tools one by one.

    Each visit returns one event, so the state is entered again until no call is left: calls that
    cannot be tried are rejected first, and each result is recorded as it arrives.
    """
    if checkpoint.is_completion_accepted:
        answer = control.completion(checkpoint, run.expert.tool.output_schema)
        return ev.CompleteRun(stamp=run.stamp(), text=answer.text, is_typed=answer.is_typed)
    try:
        toolbox = await run.toolbox()
    except (SkillError, ConfigError) as error:
        return ev.StopRunByError(stamp=run.stamp(), error=_run_error(error))
    for call in checkpoint.pending_tool_calls:
        rejection = toolbox.rejection(call)
        if rejection is not None:
            return ev.RecordToolResult(
                stamp=run.stamp(), tool_result=text_result(call, rejection, is_error=True)
            )
    pending = checkpoint.pending("mcp")
    outside = tuple(call for call in pending if not control.is_control(call))
    if outside:
        return await _execute(run, checkpoint, outside)
    if pending:
        return _answer_control(run, checkpoint, pending[0])
    if checkpoint.pending_tool_calls:
        return ev.FinishMcpTools(stamp=run.stamp())
    return ev.ResolveToolResults(stamp=run.stamp())


async def _execute(run: Run, checkpoint: Checkpoint, calls: tuple[ToolCall, ...]) -> ev.RunEvent:
    fresh = tuple(call.id for call in calls if call.id not in checkpoint.started_tool_calls)
    if fresh:
        run.calls.announce(fresh)
        return ev.StartToolCalls(stamp=run.stamp(), tool_call_ids=fresh)
    toolbox = await run.toolbox()
    for call in calls:
        tool = toolbox.find(call.tool_name)
        if not run.calls.was_announced(call) and not (tool and tool.is_repeatable):
            return ev.RecordToolResult(
                stamp=run.stamp(), tool_result=text_result(call, _IN_DOUBT, is_error=True)
            )
    await run.journal.settle()
    for call in calls:
        run.calls.begin(call)
    return ev.RecordToolResult(tool_result=await run.calls.next(), stamp=run.stamp())


def _answer_control(run: Run, checkpoint: Checkpoint, call: ToolCall) -> ev.RunEvent:
    if call.tool_name == control.ATTEMPT_COMPLETION:
        declared = run.expert.tool.output_schema
        result, accepted = control.judge_completion(checkpoint, call, declared)
        if accepted and run.expert.verifications:
            return ev.StartVerification(stamp=run.stamp())
        return ev.AttemptCompletion(stamp=run.stamp(), tool_result=result, accepted=accepted)
    result, todos = control.change_todos(checkpoint.todos, call)
    return ev.RecordToolResult(stamp=run.stamp(), tool_result=result, todos=todos)


async def calling_delegates(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Give each delegate call a child run, then stop until they have answered."""
    pending = checkpoint.pending("delegate")
    if not pending:
        return ev.SkipDelegates(stamp=run.stamp())
    assigned = {delegation.tool_call_id for delegation in checkpoint.delegate_to}
    if all(call.id in assigned for call in pending):
        return ev.StopRunByDelegate(stamp=run.stamp())
    toolbox = await run.toolbox()
    delegate_to = tuple(
        ev.Delegation(
            expert=_delegate_ref(run, toolbox.delegates[call.tool_name]),
            tool_call_id=call.id,
            tool_name=call.tool_name,
            query=toolbox.query_of(call),
            run_id=run.job.new_id(),
        )
        for call in pending
    )
    return ev.CallDelegate(stamp=run.stamp(), delegate_to=delegate_to)


def _delegate_ref(run: Run, key: str) -> ev.ExpertRef:
    expert = run.job.definitions.experts.get(key)
    return ev.ExpertRef(key=key, name=key, version=expert.version if expert else "1.0.0")


async def calling_interactive_tools(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Put the questions, then stop until the user has answered."""
    pending = checkpoint.pending("interactive")
    if not pending:
        return ev.ResolveToolResults(stamp=run.stamp())
    for call in pending:
        if call.id not in checkpoint.started_tool_calls:
            return ev.CallInteractiveTool(stamp=run.stamp(), tool_call_id=call.id)
    return ev.StopRunByInteractiveTool(stamp=run.stamp())


async def resolving_tool_result(run: Run, _checkpoint: Checkpoint) -> ev.RunEvent:
    """Make the results a message of the conversation."""
    return ev.FinishToolCall(stamp=run.stamp())


async def finishing_step(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Take the next step number of the job, or stop when there is none left to take or to use."""
    spent = attempts_spent(run, checkpoint)
    if spent is not None:
        return spent
    number = run.job.steps.take()
    if number is None:
        return ev.StopRunByExceededMaxSteps(stamp=run.stamp())
    return ev.ContinueToNextStep(stamp=run.stamp(), next_step_number=number)


DECIDE: dict[State, Decide] = {
    State.INIT: init,
    State.RESUMING_FROM_STOP: resuming_from_stop,
    State.PREPARING_FOR_STEP: preparing_for_step,
    State.GENERATING_TOOL_CALL: generating_tool_call,
    State.CALLING_MCP_TOOLS: calling_mcp_tools,
    State.CALLING_DELEGATES: calling_delegates,
    State.CALLING_INTERACTIVE_TOOLS: calling_interactive_tools,
    State.VERIFYING_COMPLETION: verifying_completion,
    State.RESOLVING_TOOL_RESULT: resolving_tool_result,
    State.FINISHING_STEP: finishing_step,
}
