"""Keeps known secrets out of text that is stored, shown or sent, by their values."""

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 6
"""Shorter values are words like `true` or `8080`; replacing them would destroy text."""

SECRET_NAME = re.compile(
    r"""
      (^|_) ( (API)?KEY | TOKEN | SECRET | PASS(WORD|WD|PHRASE)? | CREDENTIALS?
            | AUTH(ORIZATION)? | PRIVATE | COOKIES? | DSN | PAT ) (_|$)
    | HEADERS$
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Redactor:
    """Replaces the secrets it knows, also where JSON or a URL has escaped them.

    Args:
        secrets: The values to hide; those shorter than `SHORTEST_SECRET` are ignored.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._max_form_length = 0
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Hide these values too, from now on."""
        new = {
            form
            for secret in secrets
            if len(secret) >= MIN_SECRET_LENGTH
            for form in _escaped_forms(secret)
        }
        if new <= self._forms:
            return
        self._forms |= new
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._max_form_length = len(longest_first[0])
        self._pattern = re.compile("|".join(re.escape(form) for form in longest_first))

    def redact(self, text: str) -> str:
        """`text` without the secrets."""
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def redact_prefix(self, text: str, limit: int) -> str:
        """The first `limit` characters without the secrets; reads no more than it must."""
        window = text[: limit + self._max_form_length]
        # Half a surrogate pair, as models and tools may send it, would spoil a batch of spans.
        clean = window.encode("utf-8", "replace").decode("utf-8")
        redacted = self.redact(clean)
        if len(text) > len(window):
            # The window may have cut a secret in two, and its first half is no form we know.
            redacted = redacted[: len(redacted) - self._max_form_length]
        return redacted[:limit]


def _escaped_forms(secret: str) -> set[str]:
    plain = json.dumps(secret, ensure_ascii=False)[1:-1]
    escaped = json.dumps(secret)[1:-1]
    return {secret, plain, escaped, quote(secret), quote(secret, safe="")}


def is_secret_name(variable: str) -> bool:
    """Whether a variable's name says that its value is not to be shown."""
    return SECRET_NAME.search(variable) is not None


def environment_secrets(environment: Mapping[str, str]) -> list[str]:
    """The values of variables whose names say that they are secret; each header by itself."""
    secrets: list[str] = []
    for name, value in environment.items():
        if not is_secret_name(name):
            continue
        secrets.append(value)
        if name.upper().endswith("HEADERS"):
            secrets += _header_secrets(value)
    return secrets


def _header_secrets(headers: str) -> list[str]:
    values = [unquote(pair.partition("=")[2]).strip() for pair in headers.split(",")]
    return values + [value.split()[-1] for value in values if value]


MIN_SKILL_SECRET_CHARACTERS = 4


class SkillRedactor:
    """Replaces the values that one skill was given by the names of their variables.

    Args:
        values: The variables that a skill was given by `requiredEnv`.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._all_replacements = tuple(_build_replacements(values))
        self._secret_replacements = tuple(
            _build_replacements(
                {name: value for name, value in values.items() if is_secret_name(name)}
            )
        )

    def redact_diagnostics(self, text: str) -> str:
        """Text for people, with every value taken out: stderr lines, errors."""
        return _apply_replacements(text, self._all_replacements)

    def redact_result(self, text: str) -> str:
        """Text for the model, with the values of variables that are named like a secret taken out.

        A folder or a region is also passed by `requiredEnv`; results that name it must stay usable.
        """
        return _apply_replacements(text, self._secret_replacements)


def _build_replacements(values: Mapping[str, str]) -> list[tuple[str, str]]:
    replacements = {
        piece: f"[{name}]"
        for name, value in values.items()
        # A key file's value spans lines, and what quotes it often does so line by line.
        for piece in (value, *value.splitlines())
        if len(piece.strip()) >= MIN_SKILL_SECRET_CHARACTERS
    }
    return sorted(replacements.items(), key=lambda item: len(item[0]), reverse=True)


def _apply_replacements(text: str, replacements: tuple[tuple[str, str], ...]) -> str:
    for value, name in replacements:
        if value in text:
            text = text.replace(value, name)
    return text
