"""How a run verifies that its expert has finished, before it lets it complete."""

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import TextPart, ToolCall, UserMessage, text_result
from perstack.core.verification import VerificationResult, refusal
from perstack.definition.verification import Verification
from perstack.runtime import control
from perstack.runtime.run import Run

VERIFICATION_FAILED = "VerificationFailedError"
"""The name of the error of a run whose expert has used its attempts."""


async def verifying_completion(run: Run, checkpoint: Checkpoint) -> ev.RunEvent:
    """Make the checks one by one, then let the expert complete or tell it what is wrong.

    Each visit makes one check and records it, so a process that died makes the rest only.
    """
    following = _next_check(run, checkpoint)
    if following is not None:
        answer = control.completion(checkpoint, run.expert.tool.output_schema).text
        result = await run.verify(following, answer)
        return ev.RecordVerification(stamp=run.stamp(), verification=result)
    is_refused = any(result.is_blocking for result in checkpoint.verifications)
    call = control.completing_call(checkpoint)
    if call is not None:
        return _answer(run, checkpoint, call, is_refused=is_refused)
    if is_refused:
        told = _refusal(run, checkpoint)
        message = UserMessage(contents=(TextPart(text=told),))
        reason = f"Verification failed: {', '.join(_failed(checkpoint.verifications))}"
        return ev.Retry(stamp=run.stamp(), reason=reason, new_messages=(message,))
    answer = control.completion(checkpoint, run.expert.tool.output_schema)
    return ev.CompleteRun(stamp=run.stamp(), text=answer.text, is_typed=answer.is_typed)


def attempts_spent(run: Run, checkpoint: Checkpoint) -> ev.StopRunByError | None:
    """The stop of a run whose expert may not try to complete once more."""
    attempts = run.expert.max_verification_attempts
    if checkpoint.refused_completions < attempts:
        return None
    failed = ", ".join(_failed(checkpoint.verifications))
    times = "once" if attempts == 1 else f"{attempts} times"
    message = f"Verification failed {times}. At the last attempt: {failed}."
    return ev.StopRunByError(
        stamp=run.stamp(), error=ev.RunError(name=VERIFICATION_FAILED, message=message)
    )


def _next_check(run: Run, checkpoint: Checkpoint) -> Verification | None:
    made = {result.name for result in checkpoint.verifications}
    return next((each for each in run.expert.verifications if each.name not in made), None)


def _answer(
    run: Run, checkpoint: Checkpoint, call: ToolCall, *, is_refused: bool
) -> ev.AttemptCompletion:
    result = (
        text_result(call, _refusal(run, checkpoint), is_error=True)
        if is_refused
        else control.accepted(call)
    )
    return ev.AttemptCompletion(stamp=run.stamp(), tool_result=result, accepted=not is_refused)


def _refusal(run: Run, checkpoint: Checkpoint) -> str:
    attempt = checkpoint.refused_completions + 1
    return refusal(checkpoint.verifications, attempt, run.expert.max_verification_attempts)


def _failed(results: tuple[VerificationResult, ...]) -> list[str]:
    return [f"{each.name} ({each.problem})" for each in results if each.is_blocking]
