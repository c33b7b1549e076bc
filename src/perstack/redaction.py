"""Redacts known secret values from text that is stored, shown or sent."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self
from urllib.parse import quote, unquote

from perstack.text import replace_surrogates

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

NAME = re.compile(
    r"""
      (?P<dash> -?) (?P<name> [A-Za-z] [\w.-]*)
      (?P<separator> ["']? \s* [=:] \s* | \s+) (?P<quote> ["']?) (?:(?:Bearer|Basic|Token)\s+)?
    """,
    re.VERBOSE,
)
PLAIN_VALUE = re.compile(r"""[^\s;&,"']+""")
QUOTED_VALUE = re.compile(r"""[^"']+""")
URL_PASSWORD = re.compile(r"://[^\s/?#:@]*:([^\s/?#@]+)@")
CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Redactor:
    """Replaces secrets by a label, also where JSON or a URL has escaped them.

    Args:
        secrets: The values to hide; those shorter than `MIN_SECRET_LENGTH` are ignored.
        label: What replaces them.
    """

    def __init__(self, secrets: Iterable[str] = (), label: str = REDACTED) -> None:
        self._labels: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._max_form_length = 0
        self.add(secrets, label)

    @classmethod
    def of_variables(cls, variables: Mapping[str, str]) -> Self:
        """A redactor that replaces the value of each variable by `[NAME]`."""
        redactor = cls()
        for name, value in variables.items():
            redactor.add((value,), f"[{name}]")
        return redactor

    def add(self, secrets: Iterable[str], label: str = REDACTED) -> None:
        """Hide these values too, from now on."""
        labels = {form: label for secret in secrets for form in _forms(secret)}
        if labels.items() <= self._labels.items():
            return
        self._labels |= labels
        longest_first = sorted(self._labels, key=len, reverse=True)
        self._max_form_length = len(longest_first[0])
        self._pattern = re.compile("|".join(re.escape(form) for form in longest_first))

    def redact(self, text: str) -> str:
        """`text` without the secrets."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._labels[match[0]], text)

    def redact_prefix(self, text: str, limit: int) -> str:
        """The first `limit` characters without the secrets; reads no more than it must."""
        window = text[: limit + self._max_form_length]
        # A lone surrogate, as models and tools may send it, would spoil a batch of spans.
        redacted = self.redact(replace_surrogates(window))
        if len(text) > len(window):
            # The window may have cut a secret in two, and its first half is no form we know.
            redacted = redacted[: len(redacted) - self._max_form_length]
        return redacted[:limit]


def _forms(secret: str) -> Iterator[str]:
    # A key file's value spans lines, and what quotes it often does so line by line.
    for piece in (secret, *secret.splitlines()):
        if len(piece.strip()) < MIN_SECRET_LENGTH:
            continue
        yield piece
        yield json.dumps(piece, ensure_ascii=False)[1:-1]
        yield json.dumps(piece)[1:-1]
        # A variable's value may be bytes that are not UTF-8, read as surrogates.
        yield quote(piece, errors="surrogatepass")
        yield quote(piece, safe="", errors="surrogatepass")


def is_secret_name(variable: str) -> bool:
    """Whether a variable's name marks its value as secret."""
    return SECRET_NAME.search(variable) is not None


def redact_command_line(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command line without passwords in URLs and the values of secret names.

    Such names are those of options (`--api-key=…`, `--api-key …`), variables (`TOKEN=…`), headers
    (`Authorization: …`) and parameters of URLs (`?key=…`), also inside a word.
    """
    return tuple(
        _cut_out(word, spans) for word, spans in zip(words, _secret_spans(words), strict=True)
    )


def command_line_secrets(words: Sequence[str]) -> list[str]:
    """What `redact_command_line` leaves out."""
    pairs = zip(words, _secret_spans(words), strict=True)
    return [word[start:end] for word, spans in pairs for start, end in spans]


def redact_named_values(text: str) -> str:
    """A text without passwords in URLs and without what stands behind secret names."""
    return _cut_out(text, _named_values(text))


def _cut_out(text: str, spans: list[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        text = text[:start] + REDACTED + text[end:]
    return text


def _secret_spans(words: Sequence[str]) -> Iterator[list[tuple[int, int]]]:
    is_value = False
    for word in words:
        is_option = word.startswith("-")
        yield [(0, len(word))] if is_value and not is_option else _named_values(word)
        is_value = is_option and _is_secret_option(word.lstrip("-"))


def _named_values(text: str) -> list[tuple[int, int]]:
    spans = [match.span(1) for match in URL_PASSWORD.finditer(text)]
    end = 0
    for match in NAME.finditer(text):
        # Behind a blank, only an option has a value.
        has_value = match["dash"] or match["separator"].strip()
        if match.start() < end or not has_value or not _is_secret_option(match["name"]):
            continue
        is_whole = match.start() <= 1 and match["dash"] and match["separator"] == "="
        value = QUOTED_VALUE if match["quote"] else PLAIN_VALUE
        found = value.match(text, match.end())
        if found and (match["separator"].strip() or not found[0].startswith("-")):
            end = len(text) if is_whole else found.end()
            spans.append((match.end(), end))
    return _merged(spans)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that overlap as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _is_secret_option(name: str) -> bool:
    return is_secret_name(CAPITAL.sub("_", name).replace("-", "_").replace(".", "_"))


def secret_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with secret names."""
    return {name: value for name, value in variables.items() if is_secret_name(name)}


def environment_secrets(environment: Mapping[str, str]) -> list[str]:
    """The values of variables with secret names; of `…HEADERS` also each header's value."""
    secrets: list[str] = []
    for name, value in secret_variables(environment).items():
        secrets.append(value)
        if name.upper().endswith("HEADERS"):
            secrets += _header_secrets(value)
    return secrets


def _header_secrets(headers: str) -> list[str]:
    values = [unquote(pair.partition("=")[2]).strip() for pair in headers.split(",")]
    return values + [value.split()[-1] for value in values if value]
