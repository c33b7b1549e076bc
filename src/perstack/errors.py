"""Every exception that perstack raises on purpose.

Outcomes of a run (limits, retries spent, questions, provider failures) are events with a status,
and a tool's failure is a result for the model; neither is an exception. The rest is bad
configuration and broken surroundings, and it is translated into words for the user exactly once, at
the faces (`server`, `cli`).
"""

import re

_NAME_PATTERN = re.compile(r"[\w@:/.{}?,~-]{1,128}", re.ASCII)


def is_quotable_name(text: str) -> bool:
    """Whether a text that a caller gave can be a name, and so be repeated in a message about it.

    Text that cannot be an id is not repeated, so that a message contains nothing foreign.
    """
    return _NAME_PATTERN.fullmatch(text) is not None


def job_not_found(job_id: str) -> "NotFoundError":
    return NotFoundError(
        f"There is no job {job_id}."
        if is_quotable_name(job_id)
        else "There is no job with this id.",
        hint="It may be in another workspace; perstack log --jobs lists what is in one.",
    )


class PerstackError(Exception):
    """Something the user of perstack can act on.

    Args:
        message: What was wrong, naming the file, key or thing concerned.
        hint: What to do next, as one sentence.
    """

    code = "perstack.error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class DefinitionError(PerstackError):
    """`perstack.toml` cannot be found, read or accepted; the message lists every problem.

    Args:
        problems: Each problem by itself, as `perstack.toml:12:3: key reason (suggestion)`.
    """

    code = "definition.invalid"

    def __init__(
        self, message: str, *, hint: str | None = None, problems: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class UnknownExpertError(PerstackError):
    """The expert asked for is not defined."""

    code = "definition.unknown_expert"


class ConfigError(PerstackError):
    """A setting outside `perstack.toml` is missing or wrong: a key, an option, a folder."""

    code = "config.invalid"


class SkillError(PerstackError):
    """A skill could not be started or its connection was refused.

    Args:
        skill: Name of the skill in `perstack.toml`.
    """

    code = "skill.failed"

    def __init__(self, message: str, *, skill: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.skill = skill


CONTEXT_WINDOW_EXCEEDED = "ContextWindowExceededError"
"""The name of the `ModelError` for a conversation that is longer than the model can take."""


class ModelError(PerstackError):
    """A generation failed.

    Args:
        name: Short stable kind, such as `RateLimitError`.
        provider: Provider name as in `perstack.toml`.
        status: HTTP status, if the provider answered at all.
        is_retryable: Whether the same request may succeed later.
        retry_after_seconds: How long the provider asked us to wait.
    """

    code = "model.failed"

    def __init__(
        self,
        message: str,
        *,
        name: str,
        provider: str,
        status: int | None = None,
        is_retryable: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.provider = provider
        self.status = status
        self.is_retryable = is_retryable
        self.retry_after_seconds = retry_after_seconds


class StoreError(PerstackError):
    """The store cannot be read or written: a full disk, a read-only folder, a damaged file."""

    code = "store.failed"


class NotFoundError(PerstackError):
    """No job, run or checkpoint with this id is there for the caller."""

    code = "store.not_found"


class LeaseLostError(PerstackError):
    """Another process drives this job now, so this one must stop writing to it at once."""

    code = "store.lease_lost"


class JobStateError(PerstackError):
    """The job is in a state that does not allow what was asked, such as running elsewhere."""

    code = "job.state"


def request_pending(job_id: str) -> JobStateError:
    return JobStateError(
        f"Job {job_id} has a request that waits to be driven.",
        hint="Continue it without a query to drive that request, or cancel it.",
    )
