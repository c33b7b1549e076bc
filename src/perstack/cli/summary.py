"""One line about how a job ended and how to go on with it."""

import shlex

from perstack.core.messages import Usage
from perstack.core.questions import Question
from perstack.core.verification import in_brief
from perstack.jobs import JobView

_ENDINGS = {
    "completed": "completed",
    "stoppedByInteractiveTool": "waiting for an answer",
    "stoppedByMaxSteps": "stopped: all steps are used",
    "stoppedByError": "failed",
    "stoppedByCancellation": "cancelled",
    "interrupted": "interrupted",
    "running": "running",
}


def summary(view: JobView, repeated: tuple[str, ...]) -> str:
    """How the job ended: status, steps, tokens, its id and the command that goes on with it.

    Args:
        view: The job.
        repeated: Options that the command must repeat.
    """
    job = view.job
    ending = _ENDINGS[job.status]
    if job.status == "stoppedByError" and view.checkpoint.error is not None:
        ending += f" ({short(view.checkpoint.error.message, 200)})"
    if view.questions:
        ending += f" ({'; '.join(_asked(question) for question in view.questions)})"
    if job.status == "completed" and view.verifications:
        ending += f", verified: {short(in_brief(view.verifications), 400)}"
    steps = f"{job.total_steps} step" + ("" if job.total_steps == 1 else "s")
    return (
        f"{ending}; {steps}, {tokens(view.usage)}, job {job.id}; "
        f"{_next(view)}: {continuation(view, repeated)}"
    )


def tokens(usage: Usage) -> str:
    """Tokens in words."""
    cached = f", {usage.cached_input_tokens:,} cached" if usage.cached_input_tokens else ""
    return (
        f"{usage.total_tokens:,} tokens ({usage.input_tokens:,} in{cached}, "
        f"{usage.output_tokens:,} out)"
    )


def continuation(view: JobView, repeated: tuple[str, ...]) -> str:
    """The command that goes on with the job, to be pasted into a shell."""
    words = ["perstack", "run"]
    status = view.job.status
    if status == "completed":
        words += [view.checkpoint.expert.key, "..."]
    elif status == "stoppedByInteractiveTool":
        words += [view.checkpoint.expert.key, "...", "-i"]
    words += ["--continue-job", view.job.id, *repeated]
    return shlex.join(words)


def _next(view: JobView) -> str:
    match view.job.status:
        case "completed":
            return "follow up"
        case "stoppedByInteractiveTool":
            return "answer"
        case _:
            return "resume"


def short(text: str, length: int) -> str:
    """The text as one line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _asked(question: Question) -> str:
    name = question.tool_name
    return f"{name}: {short(question.message.removeprefix(f'{name}: '), 200)}"
