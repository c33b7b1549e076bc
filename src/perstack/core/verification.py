"""Results of verifications: whether they passed, why not, and the message to the expert."""

import json
import re
from collections.abc import Sequence

from perstack.definition.verification import Priority, Verification
from perstack.json_schema import validation_errors
from perstack.models import FrozenModel, TomlTable

MAX_OUTPUT_CHARACTERS = 4_000
"""Of each check, as it is stored and told; half from the beginning and half from the end."""

_TRUNCATION_NOTE_CHARACTERS = 60
"""For the line between them."""


class VerificationResult(FrozenModel):
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


def build_verification_result(
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


def evaluate_command(verification: Verification, exit_code: int, output: str) -> VerificationResult:
    """Whether a command that ran to its end did what is expected of it."""
    problem, pattern = "", verification.expect_output
    if exit_code != verification.expect_exit_code:
        problem = f"exit code {exit_code} instead of {verification.expect_exit_code}"
    elif pattern is not None and re.search(pattern, output, re.MULTILINE) is None:
        problem = f"the output does not match {pattern}"
    return build_verification_result(verification, problem, exit_code=exit_code, output=output)


def evaluate_value(verification: Verification, schema: TomlTable, text: str) -> VerificationResult:
    """Whether a text is JSON that fits `schema`."""
    subject = f"the file {verification.file}" if verification.file else "the answer"
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return build_verification_result(verification, f"{subject} is no JSON")
    problems = validation_errors(value, schema)
    return build_verification_result(
        verification, f"{subject}: {'; '.join(problems)}" if problems else ""
    )


def truncate_middle(text: str, limit: int = MAX_OUTPUT_CHARACTERS) -> str:
    """The two ends of a text that is longer than the limit; cut again, it stays as it is."""
    if len(text) <= limit:
        return text
    half = (limit - _TRUNCATION_NOTE_CHARACTERS) // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def feedback(results: Sequence[VerificationResult], attempt: int, max_attempts: int) -> str:
    """The message to an expert that may not complete yet.

    Args:
        results: All checks of this attempt.
        attempt: Which attempt it was, from 1.
        max_attempts: How many there are.
    """
    failed = sorted((each for each in results if not each.passed), key=lambda each: each.priority)
    count = f"{len(failed)} of {len(results)} verifications failed"
    parts = [f"Not completed: {count} (attempt {attempt} of {max_attempts})."]
    for each in failed:
        remark = "" if each.is_blocking else ", which does not keep you from completing"
        parts.append(f"- {each.name}: {each.problem}{remark}.")
        if each.output.strip():
            parts.append(each.output.strip("\n"))
    parts.append("Put right what is wrong, then complete again.")
    return "\n".join(parts)


def format_verification_results(results: Sequence[VerificationResult]) -> str:
    """All checks on one line, for people."""
    marks = (
        f"{each.name} {'✓' if each.passed else '✗'}"
        + (f" ({each.problem})" if each.problem else "")
        for each in results
    )
    return " · ".join(marks)
