"""Whether a job came out as a test of its expert expects."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from perstack.core.checkpoint import JobStatus
from perstack.core.verification import VerificationResult
from perstack.definition.tests import Expectation

MAX_EXCERPT_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: Of the job.
        text: The answer, the error or the open question.
        steps: Over all its runs.
        tokens: Over all its runs.
        seconds: From its first event to its last.
        verifications: Of the last attempt to complete.
    """

    status: JobStatus
    text: str
    steps: int
    tokens: int
    seconds: float
    verifications: tuple[VerificationResult, ...] = ()


def unmet(expected: Expectation, outcome: Outcome) -> tuple[str, ...]:
    """What is not as expected, each as a sentence about the job; empty if all is."""
    return tuple(_iter_unmet(expected, outcome))


def _iter_unmet(expected: Expectation, outcome: Outcome) -> Iterator[str]:
    if outcome.status != expected.status:
        excerpt = f": {_excerpt(outcome.text)}" if outcome.text else ""
        yield f"it ended as {outcome.status}, not as {expected.status}{excerpt}"
    pattern = expected.output_matches
    if pattern is not None and re.search(pattern, outcome.text, re.MULTILINE) is None:
        yield f"the answer does not match {pattern}: {_excerpt(outcome.text)}"
    yield from _failed_verifications(expected, outcome)
    yield from _exceeded_limit("steps", outcome.steps, expected.max_steps)
    yield from _exceeded_limit("tokens", outcome.tokens, expected.max_tokens)
    yield from _exceeded_limit("seconds", round(outcome.seconds, 1), expected.max_seconds)


def _failed_verifications(expected: Expectation, outcome: Outcome) -> Iterator[str]:
    if expected.verifications == "must":
        return  # else it could not complete
    for result in outcome.verifications:
        if not result.passed:
            yield f"the verification {result.name} failed: {_excerpt(result.problem)}"


def _exceeded_limit(unit: str, used: float, limit: float | None) -> Iterator[str]:
    if limit is not None and used > limit:
        yield f"it took {used:,} {unit}, more than {limit:,}"


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_EXCERPT_CHARACTERS else f"{line[: MAX_EXCERPT_CHARACTERS - 1]}…"
