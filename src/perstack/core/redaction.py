"""Keeps known secrets out of text that is stored, shown or sent, by their values."""

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

REDACTED = "[redacted]"
SHORTEST_SECRET = 6
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
        self._longest = 0
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Hide these values too, from now on."""
        new = {
            form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)
        }
        if new <= self._forms:
            return
        self._forms |= new
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._longest = len(longest_first[0])
        self._pattern = re.compile("|".join(re.escape(form) for form in longest_first))

    def text(self, text: str) -> str:
        """`text` without the secrets."""
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def head(self, text: str, limit: int) -> str:
        """The first `limit` characters without the secrets; reads no more than it must."""
        window = text[: limit + self._longest]
        # Half a surrogate pair, as models and tools may send it, would spoil a batch of spans.
        clean = window.encode("utf-8", "replace").decode("utf-8")
        redacted = self.text(clean)
        if len(text) > len(window):
            # The window may have cut a secret in two, and its first half is no form we know.
            redacted = redacted[: len(redacted) - self._longest]
        return redacted[:limit]


def _forms(secret: str) -> set[str]:
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
