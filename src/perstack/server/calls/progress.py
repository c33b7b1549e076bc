"""What a client is told while it waits: one short line for each thing that happens.

Names only. Arguments and results of tools may hold secrets, and progress is shown and logged
anywhere.
"""

from collections.abc import Sequence

from perstack.core import events as ev
from perstack.core import passing
from perstack.core.passing import PerstackEvent

MAX_NAMES = 3
MAX_NAME = 60

_PLAIN: dict[str, str] = {
    "startRun": "started",
    "resumeFromStop": "resumed",
    "startGeneration": "thinking",
    "completeRun": "completed",
    "stopRunByInteractiveTool": "waiting for an answer",
    "stopRunByDelegate": "waiting for delegates",
    "stopRunByExceededMaxSteps": "out of steps",
    "stopRunByCancellation": "cancelled",
}


def progress_message(event: PerstackEvent) -> str | None:
    """The line for an event, such as `reviewer · step 3 · readTextFile`.

    `None` if it is not worth one.
    """
    what = _what(event)
    if what is None:
        return None
    return f"{event.stamp.expert_key} · step {event.stamp.step_number} · {what}"


def status_line(events: Sequence[PerstackEvent]) -> str:
    """The line for a job whose newest events these are; empty if none is worth one."""
    lines = (progress_message(event) for event in reversed(events))
    return next((line for line in lines if line is not None), "")


def _what(event: PerstackEvent) -> str | None:
    match event:
        case ev.CallTools():
            return _names([call.tool_name for call in event.new_message.tool_calls])
        case ev.RecordToolResult():
            outcome = "failed" if event.tool_result.is_error else "done"
            return f"{_name(event.tool_result.tool_name)} {outcome}"
        case ev.RecordVerification():
            outcome = "passed" if event.verification.passed else "failed"
            return f"{_name(event.verification.name)} {outcome}"
        case ev.CallDelegate():
            return f"delegating to {_names([each.expert.key for each in event.delegate_to])}"
        case ev.Retry():
            return f"trying again after {event.error.name}" if event.error else "trying again"
        case ev.StopRunByError():
            return f"stopped by {event.error.name}"
        case passing.SkillStarting():
            return f"starting {_name(event.skill_name)}"
        case passing.SkillAsked():
            return f"{_name(event.skill_name)} asks the user"
        case passing.SkillConnected():
            return f"{_name(event.skill_name)} is ready"
        case _:
            return _PLAIN.get(event.type)


def _names(names: list[str]) -> str:
    shown = ", ".join(_name(name) for name in names[:MAX_NAMES])
    more = len(names) - MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _name(name: str) -> str:
    plain = name.encode("utf-8", "replace").decode("utf-8")
    return plain if len(plain) <= MAX_NAME else f"{plain[: MAX_NAME - 1]}…"
