"""What a verification found: whether it passed, why not, and what the expert is told of it."""

import json
import re
from collections.abc import Sequence

from perstack.core.values import problems_of
from perstack.definition.record import Record
from perstack.definition.tables import Table
from perstack.definition.verification import Priority, Verification

MAX_OUTPUT_CHARACTERS = 4_000
"""Of each check, as it is stored and told; half from the beginning and half from the end."""

_ROOM_FOR_REMARK = 60
"""For the line between them."""


class VerificationResult(Record):
    """One check that was made.

    Attributes:
        name: Which one.
        priority: Whether its failure keeps the expert from completing.
        passed: Whether all that was expected was found.
        exit_code: That of the command, negative for a signal; `None` if it has none.
        problem: What was wrong, as the end of a sentence; empty if it passed.
        output: What the command wrote, stdout before stderr.
    """

    name: str
    priority: Priority
    passed: bool
    exit_code: int | None = None
    problem: str = ""
    output: str = ""

    @property
    def is_blocking(self) -> bool:
        """Whether the expert cannot complete because of it."""
        return self.priority == "must" and not self.passed


def judged(
    verification: Verification, problem: str, *, exit_code: int | None = None, output: str = ""
) -> VerificationResult:
    """The result of a check; it passed if there is no problem."""
    return VerificationResult(
        name=verification.name,
        priority=verification.priority,
        passed=not problem,
        exit_code=exit_code,
        problem=problem,
        output=output,
    )


def judge_command(verification: Verification, exit_code: int, output: str) -> VerificationResult:
    """Whether a command that ran to its end did what is expected of it."""
    problem, pattern = "", verification.expect_output
    if exit_code != verification.expect_exit_code:
        problem = f"exit code {exit_code} instead of {verification.expect_exit_code}"
    elif pattern is not None and re.search(pattern, output, re.MULTILINE) is None:
        problem = f"the output does not match {pattern}"
    return judged(verification, problem, exit_code=exit_code, output=output)


def judge_value(verification: Verification, schema: Table, text: str) -> VerificationResult:
    """Whether a text is JSON that fits `schema`."""
    what = f"the file {verification.file}" if verification.file else "the answer"
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return judged(verification, f"{what} is no JSON")
    problems = problems_of(value, schema)
    return judged(verification, f"{what}: {'; '.join(problems)}" if problems else "")


def cut(text: str, limit: int = MAX_OUTPUT_CHARACTERS) -> str:
    """The two ends of a text that is longer than the limit; cut again, it stays as it is."""
    if len(text) <= limit:
        return text
    half = (limit - _ROOM_FOR_REMARK) // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def refusal(results: Sequence[VerificationResult], attempt: int, attempts: int) -> str:
    """What an expert is told that may not complete yet.

    Args:
        results: All checks of this attempt.
        attempt: Which attempt it was, from 1.
        attempts: How many there are.
    """
    failed = sorted((each for each in results if not each.passed), key=lambda each: each.priority)
    count = f"{len(failed)} of {len(results)} verifications failed"
    parts = [f"Not completed: {count} (attempt {attempt} of {attempts})."]
    for each in failed:
        weight = "" if each.is_blocking else ", which does not keep you from completing"
        parts.append(f"- {each.name}: {each.problem}{weight}.")
        if each.output.strip():
            parts.append(each.output.strip("\n"))
    parts.append("Put right what is wrong, then complete again.")
    return "\n".join(parts)


def in_brief(results: Sequence[VerificationResult]) -> str:
    """All checks on one line, for people."""
    marks = (
        f"{each.name} {'✓' if each.passed else '✗'}"
        + (f" ({each.problem})" if each.problem else "")
        for each in results
    )
    return " · ".join(marks)
