"""Elicitation: questions that a skill's server puts to the user during a call.

The message is attributed to the skill. A form never asks for keys or passwords, and no page is
opened here.
"""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
from mcp.types import ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult

from perstack.core.elicitation import ElicitationReply, FormSchema
from perstack.definition.form_schema import (
    form_schema_errors,
    secret_fields,
    without_unknown_keywords,
)
from perstack.runtime.ports import SkillListener

MAX_MESSAGE_CHARACTERS = 4_000
MAX_URL_CHARACTERS = 2_048
DECLINE_REASON_KEY = "perstack/reason"
DONE_FIELD = "done"
_URL_CONFIRMATION_SCHEMA: FormSchema = {
    "type": "object",
    "properties": {
        DONE_FIELD: {"type": "boolean", "title": "I have opened the page and done what it asks for"}
    },
    "required": [DONE_FIELD],
}

Redact = Callable[[str], str]


async def ask_user(
    listener: SkillListener,
    skill_name: str,
    params: ElicitRequestFormParams | ElicitRequestURLParams,
    redact: Redact,
) -> ElicitResult:
    """Put a server's question to the user; decline what cannot be shown, with the reason.

    Args:
        listener: Of the run that makes the call.
        skill_name: The skill of the server.
        params: The server's question.
        redact: Removes the secrets that the server was given.
    """
    if isinstance(params, ElicitRequestURLParams):
        return await _elicit_url(listener, skill_name, params, redact)
    schema = without_unknown_keywords(params.requested_schema)
    problem = next(form_schema_errors(schema), None)
    secrets = () if problem else secret_fields(schema)
    if secrets:
        problem = f"asks for a secret (field {secrets[0]!r}), which no form may do"
    if problem is not None:
        return _decline(listener, skill_name, f"its form {problem}")
    message = _attribute(skill_name, params.message, redact)
    return _to_elicit_result(
        await listener.elicit(skill_name, message, _redact_values(schema, redact))
    )


async def _elicit_url(
    listener: SkillListener, skill_name: str, params: ElicitRequestURLParams, redact: Redact
) -> ElicitResult:
    if not _is_web_url(params.url):
        return _decline(listener, skill_name, "the page it wants opened has no address to open")
    message = _attribute(skill_name, params.message, redact)
    reply = await listener.elicit(
        skill_name, f"{message}\nPage to open: {params.url}", _URL_CONFIRMATION_SCHEMA
    )
    if reply.action != "accept":
        return _to_elicit_result(reply)
    return ElicitResult(action="accept" if reply.content.get(DONE_FIELD) else "decline")


def _to_elicit_result(reply: ElicitationReply) -> ElicitResult:
    if reply.action == "accept":
        return ElicitResult(action="accept", content=dict(reply.content))
    return ElicitResult(action=reply.action)


def _decline(listener: SkillListener, skill_name: str, reason: str) -> ElicitResult:
    listener.stderr(skill_name, f"(its question was declined: {reason})")
    return ElicitResult(action="decline", _meta={DECLINE_REASON_KEY: reason})


def _attribute(skill_name: str, message: str, redact: Redact) -> str:
    printable = "".join(letter for letter in message if letter.isprintable() or letter in "\n\t")
    return f"{skill_name} asks: {redact(printable)[:MAX_MESSAGE_CHARACTERS]}"


def _redact_values(value: Any, redact: Redact) -> Any:
    match value:
        case str():
            return redact(value)
        case list():
            return [_redact_values(each, redact) for each in cast("list[Any]", value)]
        case dict():
            fields = cast("dict[str, Any]", value)
            return {key: _redact_values(each, redact) for key, each in fields.items()}
        case _:
            return value


def _is_web_url(url: str) -> bool:
    if len(url) > MAX_URL_CHARACTERS or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"https", "http"} and bool(parts.hostname)


class PausableTimeout:
    """The time limit of the calls of one connection, which does not run during elicitations.

    Args:
        seconds: For each call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._remaining: dict[object, dict[anyio.CancelScope, float]] = {}
        self._pause_counts: Counter[object] = Counter()

    @contextmanager
    def limit(self, job: object) -> Generator[None]:
        """Entered around a call of a job.

        Raises:
            TimeoutError: It took longer than any call may.
        """
        with anyio.fail_after(self._seconds) as scope:
            remaining = self._remaining.setdefault(job, {})
            remaining[scope] = self._seconds
            if job in self._pause_counts:
                scope.deadline = float("inf")
            try:
                yield
            finally:
                del remaining[scope]
                if not remaining:
                    del self._remaining[job]

    @contextmanager
    def pause(self, job: object) -> Generator[None]:
        """Entered around an elicitation.

        Which of a job's calls it is about is not known, so the time of all of them stops.
        """
        self._pause_counts[job] += 1
        if self._pause_counts[job] == 1:
            remaining = self._remaining.get(job, {})
            for scope in remaining:
                remaining[scope] = scope.deadline - anyio.current_time()
                scope.deadline = float("inf")
        try:
            yield
        finally:
            self._pause_counts[job] -= 1
            if self._pause_counts[job] == 0:
                del self._pause_counts[job]
                for scope, seconds in self._remaining.get(job, {}).items():
                    scope.deadline = anyio.current_time() + seconds
