"""What a run does in each state: look at the checkpoint, act if need be, return one event.

`DECIDE` at the end has one function for each state. None of them changes the checkpoint; that is
left to `core.machine.evolve`. Whatever a model or a tool does wrong becomes an event or a result,
never an exception.
"""

from collections.abc import Awaitable, Callable

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.messages import (
    TextPart,
    ToolCall,
    UserMessage,
    text_result,
)
from perstack.core.verification import VerificationResult, feedback
from perstack.definition.verification import Verification
from perstack.errors import ConfigError, ModelError, SkillError
from perstack.runtime import compaction, control
from perstack.runtime.repetition import REPEATED_CALL, stuck_call
from perstack.runtime.replies import model_error_event, reply_event, run_error
from perstack.runtime.run import Run

VERIFICATION_FAILED = "VerificationFailedError"
"""The name of the error of a run whose expert has used its attempts."""


async def verifying_completion(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Run the verifications one by one, then complete or return their problems to the expert.

    Each visit makes one check and records it, so a process that died makes the rest only.
    """
    verification = _next_verification(run, checkpoint)
    if verification is not None:
        answer = control.final_answer(checkpoint, run.expert.tool.output_schema).text
        result = await run.verify(verification, answer)
        return ev.RecordVerification(stamp=run.stamp(), verification=result)
    is_refused = any(result.is_blocking for result in checkpoint.verifications)
    call = control.completion_call(checkpoint)
    if call is not None:
        return _answer_completion_call(run, checkpoint, call, is_refused=is_refused)
    if is_refused:
        text = _failure_feedback(run, checkpoint)
        message = UserMessage(contents=(TextPart(text=text),))
        reason = f"Verification failed: {', '.join(_blocking_failures(checkpoint.verifications))}"
        return ev.Retry(stamp=run.stamp(), reason=reason, new_messages=(message,))
    answer = control.final_answer(checkpoint, run.expert.tool.output_schema)
    return ev.CompleteRun(stamp=run.stamp(), text=answer.text, is_typed=answer.is_typed)


def stop_if_attempts_exhausted(run: Run, checkpoint: Checkpoint) -> ev.StopRunByError | None:
    """The stop of a run whose expert may not try to complete once more."""
    attempts = run.expert.max_verification_attempts
    if checkpoint.refused_completions < attempts:
        return None
    failed = ", ".join(_blocking_failures(checkpoint.verifications))
    times = "once" if attempts == 1 else f"{attempts} times"
    message = f"Verification failed {times}. At the last attempt: {failed}."
    return ev.StopRunByError(
        stamp=run.stamp(), error=ev.RunError(name=VERIFICATION_FAILED, message=message)
    )


def _next_verification(run: Run, checkpoint: Checkpoint) -> Verification | None:
    made = {result.name for result in checkpoint.verifications}
    return next((each for each in run.expert.verifications if each.name not in made), None)


def _answer_completion_call(
    run: Run, checkpoint: Checkpoint, call: ToolCall, *, is_refused: bool
) -> ev.AttemptCompletion:
    result = (
        text_result(call, _failure_feedback(run, checkpoint), is_error=True)
        if is_refused
        else control.accepted_result(call)
    )
    return ev.AttemptCompletion(stamp=run.stamp(), tool_result=result, accepted=not is_refused)


def _failure_feedback(run: Run, checkpoint: Checkpoint) -> str:
    attempt = checkpoint.refused_completions + 1
    return feedback(checkpoint.verifications, attempt, run.expert.max_verification_attempts)


def _blocking_failures(results: tuple[VerificationResult, ...]) -> list[str]:
    return [f"{each.name} ({each.problem})" for each in results if each.is_blocking]


Decide = Callable[[Run, Checkpoint], Awaitable[ev.RunEvent]]

_UNKNOWN_OUTCOME = (
    "The run was interrupted while this call was being executed, so its effect is unknown: "
    "it may have happened wholly, partly or not at all. Check before you call it again."
)


async def init(run: Run, _checkpoint: Checkpoint) -> ev.RunEvent:
    """Begin with messages, or as a branch from a checkpoint of another run."""
    run_start = run.run_start
    if run_start.is_plain_continuation:
        return ev.ResumeFromStop(
            stamp=run.stamp(),
            continued_from=run_start.continued_from,
            step_limit=run.job.steps.limit,
            limits=run.limits_to_record(),
            trace_parent=run.span.trace_parent,
        )
    expert = ev.ExpertRef(key=run.expert.key, name=run.expert.name, version=run.expert.version)
    return ev.StartRun(
        stamp=run.stamp(),
        expert=expert,
        provider=run.choice.provider.provider_name,
        model=run.choice.model,
        input_messages=run_start.messages,
        step_limit=run.job.steps.limit,
        limits=run.budget.limits,
        context_window=run.choice.facts.context_window,
        delegated_by=run_start.delegated_by,
        continued_from=run_start.continued_from,
        new_instruction=run_start.instruction,
        definition_hash=run.job.definition_hash,
        trace_parent=run.span.trace_parent,
    )


async def resuming_from_stop(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Resume after a stop."""
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
    """Wait if a retry asks for it, get ready, reserve what a reply needs, record the intent to ask.

    Whatever takes time and is not the model's work is done before that is recorded.
    """
    if checkpoint.retry_delay_seconds:
        await run.event_writer.flush()
        await run.job.clock.sleep(checkpoint.retry_delay_seconds)
    try:
        await run.prepare_generation()
    except ModelError as error:
        return model_error_event(run, checkpoint, error)
    except (SkillError, ConfigError) as error:
        return ev.StopRunByError(stamp=run.stamp(), error=run_error(error))
    if compaction.is_due(run, checkpoint):
        return await _compact(run, checkpoint)
    shortage = await run.reserve()
    if shortage is not None:
        return run.stop_by(shortage)
    return ev.StartGeneration(stamp=run.stamp())


async def _compact(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    try:
        return await compaction.compact(run, checkpoint)
    except ModelError as error:
        return model_error_event(run, checkpoint, error)
    except ConfigError as error:
        return ev.StopRunByError(stamp=run.stamp(), error=run_error(error))


async def generating_tool_call(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Ask the model and make an event of whatever it answers.

    What a process had prepared and reserved that died in the middle of this is prepared again.
    """
    try:
        if not run.is_prepared:
            await run.prepare_generation()
        shortage = await run.reserve()
        if shortage is not None:
            return run.stop_by(shortage)
        generation = await run.generate()
    except ModelError as error:
        if compaction.is_remedy(run, checkpoint, error):
            return await _compact(run, checkpoint)
        return model_error_event(run, checkpoint, error)
    except (SkillError, ConfigError) as error:
        return ev.StopRunByError(stamp=run.stamp(), error=run_error(error))
    return await reply_event(run, checkpoint, generation)


async def calling_mcp_tools(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Execute the calls of skills side by side, then answer the run's own tools one by one.

    Each visit returns one event, so the state is entered again until no call is left: calls that
    cannot be tried are rejected first, and each result is recorded as it arrives.
    """
    if checkpoint.is_completion_accepted:
        answer = control.final_answer(checkpoint, run.expert.tool.output_schema)
        return ev.CompleteRun(stamp=run.stamp(), text=answer.text, is_typed=answer.is_typed)
    try:
        toolbox = await run.toolbox()
    except (SkillError, ConfigError) as error:
        return ev.StopRunByError(stamp=run.stamp(), error=run_error(error))
    repetition = _stop_if_stuck(run, checkpoint)
    if repetition is not None:
        return repetition
    for call in checkpoint.pending_tool_calls:
        if call.id in checkpoint.started_tool_calls:
            continue
        rejection = toolbox.rejection_reason(call) or run.refusal(call)
        if rejection is not None:
            return run.tool_result_event(text_result(call, rejection, is_error=True))
    pending = checkpoint.pending("mcp")
    skill_calls = tuple(call for call in pending if not control.is_control(call))
    if skill_calls:
        return await _execute_skill_calls(run, checkpoint, skill_calls)
    if pending:
        return _answer_control_call(run, checkpoint, pending[0])
    if checkpoint.pending_tool_calls:
        return ev.FinishMcpTools(stamp=run.stamp())
    return ev.ResolveToolResults(stamp=run.stamp())


def _stop_if_stuck(run: Run, checkpoint: Checkpoint) -> ev.StopRunByError | None:
    limit = run.job.definitions.budget.max_repeated_calls
    has_begun = checkpoint.started_tool_calls or checkpoint.tool_results
    call = None if has_begun else stuck_call(checkpoint, limit)
    if call is None:
        return None
    message = f"The expert repeats the call of {call.tool_name} although it was refused."
    return ev.StopRunByError(
        stamp=run.stamp(), error=ev.RunError(name=REPEATED_CALL, message=message)
    )


async def _execute_skill_calls(
    run: Run, checkpoint: Checkpoint, calls: tuple[ToolCall, ...]
) -> ev.RunEvent:
    new_call_ids = tuple(call.id for call in calls if call.id not in checkpoint.started_tool_calls)
    if new_call_ids:
        run.calls.announce(new_call_ids)
        return ev.StartToolCalls(stamp=run.stamp(), tool_call_ids=new_call_ids)
    toolbox = await run.toolbox()
    for call in calls:
        tool = toolbox.find(call.tool_name)
        if not run.calls.was_announced(call) and not (tool and tool.is_repeatable):
            return run.tool_result_event(text_result(call, _UNKNOWN_OUTCOME, is_error=True))
    await run.event_writer.flush()
    for call in calls:
        run.calls.start(call)
    return run.tool_result_event(await run.calls.next_result())


def _answer_control_call(run: Run, checkpoint: Checkpoint, call: ToolCall) -> ev.RunEvent:
    if call.tool_name == control.ATTEMPT_COMPLETION:
        output_schema = run.expert.tool.output_schema
        result, accepted = control.check_completion(checkpoint, call, output_schema)
        if accepted and run.expert.verifications:
            return ev.StartVerification(stamp=run.stamp())
        return ev.AttemptCompletion(stamp=run.stamp(), tool_result=result, accepted=accepted)
    result, todos = control.change_todos(checkpoint.todos, call)
    return run.tool_result_event(result, todos)


async def calling_delegates(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Give each delegate call a child run, then stop until they have answered."""
    pending = checkpoint.pending("delegate")
    if not pending:
        return ev.SkipDelegates(stamp=run.stamp())
    assigned = {
        delegation.tool_call_id
        for delegation in checkpoint.delegate_to
        if not _is_of_another_run(run, delegation)
    }
    if all(call.id in assigned for call in pending):
        return ev.StopRunByDelegate(stamp=run.stamp())
    toolbox = await run.toolbox()
    delegate_to = tuple(
        ev.Delegation(
            expert=_delegate_ref(run, toolbox.delegates[call.tool_name]),
            tool_call_id=call.id,
            tool_name=call.tool_name,
            query=toolbox.delegate_query(call),
            run_id=run.job.new_id(),
        )
        for call in pending
    )
    return ev.CallDelegate(stamp=run.stamp(), delegate_to=delegate_to)


def _is_of_another_run(run: Run, delegation: ev.Delegation) -> bool:
    """Whether the child run answers the run that this one branched off, whose work it stays."""
    child = run.job.known_checkpoints.get(delegation.run_id)
    parent = child.delegated_by if child is not None else None
    return parent is not None and parent.run_id != run.checkpoint.run_id


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
    stop_event = stop_if_attempts_exhausted(run, checkpoint)
    if stop_event is not None:
        return stop_event
    shortage = run.budget.step_shortage()
    if shortage is not None:
        return run.stop_by(shortage)
    number = run.job.steps.take()
    if number is None:
        return ev.StopRunByExceededMaxSteps(stamp=run.stamp())
    steps = run.job.steps
    notice = run.budget.notice(
        run.estimate(),
        (number - steps.first, steps.limit - steps.first),
        checkpoint.budget_notice,
        is_renewed=checkpoint.is_budget_renewed,
    )
    return ev.ContinueToNextStep(stamp=run.stamp(), next_step_number=number, notice=notice)


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
