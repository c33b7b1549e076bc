"""What was verified, as a part of a result: enough to believe it, little enough to be read."""

from typing import Any

from perstack.core.verification import VerificationResult, cut, in_brief
from perstack.jobs import JobView
from perstack.server.reading.documents import sound

MAX_OUTPUT_SHOWN = 800
MAX_PROBLEM_SHOWN = 400
MAX_OUTPUTS_SHOWN = 4_000
"""Of all checks together."""


def evidence(view: JobView) -> list[dict[str, Any]]:
    """The checks of the last attempt to complete; empty if the expert has none."""
    results = view.verifications
    room = min(MAX_OUTPUT_SHOWN, MAX_OUTPUTS_SHOWN // max(len(results), 1))
    return [_entry(result, room) for result in results]


def evidence_line(view: JobView) -> str:
    """The same on one line; empty if there is none."""
    told = cut(in_brief(view.verifications), MAX_OUTPUT_SHOWN).replace("\n", " ")
    return sound(f"verifications: {told}") if told else ""


def _entry(result: VerificationResult, room: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": sound(result.name),
        "priority": result.priority,
        "passed": result.passed,
    }
    if result.exit_code is not None:
        entry["exit_code"] = result.exit_code
    if result.problem:
        entry["problem"] = sound(cut(result.problem, MAX_PROBLEM_SHOWN))
    if result.output.strip():
        entry["output"] = sound(cut(result.output.strip(), room))
    return entry
