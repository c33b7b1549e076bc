"""Static tokens in a file, for installations without an OAuth issuer.

The file contains hashes only, so reading it gives no access.
"""

import hashlib
import hmac
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from logging import getLogger
from pathlib import Path
from typing import Any, cast

import tomli
from mcp.server.auth.provider import AccessToken

from perstack.errors import ConfigError
from perstack.runtime.ports import Clock
from perstack.server.auth import scopes
from perstack.server.auth.reloading_file import ReloadingFile

LOG = getLogger(__name__)

ISSUER = "perstack:tokens"
"""The issuer of file tokens, so that their principals differ from those of any OAuth issuer."""

KEY_PREFIX = "pst_"
"""Lets secret scanners recognise a token."""

ENTRY_KEYS = frozenset({"sha256", "principal", "scopes", "expires"})
SHA256_HEX = re.compile(r"[0-9a-fA-F]{64}")
INVALID_DATE = 'expires must be a date, such as "2027-01-01", by UTC unless it says otherwise'
MAX_PRINCIPAL = 128
MAX_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One token of the file, identified by its SHA-256 digest."""

    digest: bytes
    principal: str
    scopes: frozenset[str]
    expires_ms: int | None


class TokenFileVerifier:
    """Satisfies the SDK's `TokenVerifier` with a file that is read again when it changes.

    Raises:
        ConfigError: It cannot be read, is invalid, or has unsafe permissions.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = ReloadingFile(path, parse_tokens, check_permissions)
        self._clock = clock

    async def verify_token(self, token: str) -> AccessToken | None:
        entry = self._find(token) if len(token) <= MAX_CHARACTERS else None
        if entry is None:
            LOG.warning("perstack: a token was refused: it is not in the file.")
            return None
        if entry.expires_ms is not None and self._clock.now_ms() >= entry.expires_ms:
            LOG.warning("perstack: a token of %s was refused: it has expired.", entry.principal)
            return None
        return AccessToken(
            # Jobs and skills must never see the token.
            token="",
            # The same for all tokens of a principal, so that sessions survive a new token.
            client_id=entry.principal,
            scopes=sorted(entry.scopes),
            expires_at=None if entry.expires_ms is None else math.ceil(entry.expires_ms / 1000),
            subject=entry.principal,
            claims={"iss": ISSUER},
        )

    def _find(self, token: str) -> TokenEntry | None:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        matched = None
        for entry in self._file.current() or ():
            # All entries are compared, so that timing reveals nothing.
            if hmac.compare_digest(entry.digest, digest):
                matched = entry
        return matched


def check_token_file(path: Path) -> None:
    """Validate a token file.

    Raises:
        ConfigError: It cannot be read, is invalid, or has unsafe permissions.
    """
    ReloadingFile(path, parse_tokens, check_permissions)


def generate_token() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(32)


def format_entry(
    token: str, principal: str, granted: tuple[str, ...], expires: str | None, *, now_ms: int = 0
) -> str:
    """The entry of a token for the token file, as TOML.

    Raises:
        ConfigError: The principal, a scope or the date is invalid, or the date has passed.
    """
    lines = [
        "[[token]]",
        f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"',
        f"principal = {_toml_string(principal)}",
        f"scopes = [{', '.join(_toml_string(scope) for scope in granted)}]",
    ]
    if expires is not None:
        lines.append(f"expires = {_toml_string(expires)}")
    text = "\n".join(lines) + "\n"
    (entry,) = parse_tokens(text.encode())
    if entry.expires_ms is not None and entry.expires_ms <= now_ms:
        raise ConfigError(
            f"--expires {expires} has passed already.",
            hint="A date alone is its first moment by UTC. Give a later one.",
        )
    return text


def parse_tokens(content: bytes) -> tuple[TokenEntry, ...]:
    """The entries of a token file.

    Raises:
        ConfigError: The content is invalid; the message names the entry.
    """
    try:
        document = tomli.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"it is not TOML: {error}.") from error
    tables = document.get("token", [])
    if document.keys() - {"token"} or not _are_tables(tables):
        raise ConfigError("it must hold [[token]] tables only.", hint="See `perstack token`.")
    entries: list[TokenEntry] = []
    for number, table in enumerate(cast("list[Mapping[str, Any]]", tables), start=1):
        try:
            entries.append(_parse_entry(table))
        except ValueError as error:
            raise ConfigError(f"token {number}: {error}.", hint="See `perstack token`.") from error
    if len({entry.digest for entry in entries}) < len(entries):
        raise ConfigError("two entries have the same sha256.", hint="Give each its own token.")
    return tuple(entries)


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) for one in cast("list[object]", value)
    )


def check_permissions(file_stat: os.stat_result) -> None:
    """Refuse a file with which others could grant themselves access, or see who has it."""
    if file_stat.st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise ConfigError("others can read or change it.", hint="Run chmod 600 on it.")


def _parse_entry(table: Mapping[str, Any]) -> TokenEntry:
    if unknown := table.keys() - ENTRY_KEYS:
        raise ValueError(f"{min(unknown)} is not known")
    return TokenEntry(
        _parse_digest(table.get("sha256")),
        _parse_principal(table.get("principal")),
        _parse_scopes(table.get("scopes", [scopes.RUN])),
        _parse_expiry(table.get("expires")),
    )


def _parse_digest(value: object) -> bytes:
    if not isinstance(value, str) or not SHA256_HEX.fullmatch(value):
        raise ValueError("sha256 must be 64 hexadecimal digits")
    return bytes.fromhex(value)


def _parse_principal(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= MAX_PRINCIPAL:
        raise ValueError(f"principal must be a name of at most {MAX_PRINCIPAL} characters")
    return value


def _parse_scopes(value: object) -> frozenset[str]:
    granted = cast("list[object]", value) if isinstance(value, list) else [value]
    for scope in granted:
        if not isinstance(scope, str) or not scopes.is_scope(scope):
            known = ", ".join((*scopes.SCOPES, scopes.RUN_PREFIX + "EXPERT"))
            raise ValueError(f"scopes has {scope!r}, which is none of {known}")
    return frozenset(cast("list[str]", granted))


def _parse_expiry(value: object) -> int | None:
    match value:
        case None:
            return None
        case datetime():
            moment = value
        case date():
            moment = datetime.combine(value, time())
        case str():
            try:
                moment = datetime.fromisoformat(value)
            except ValueError as error:
                raise ValueError(INVALID_DATE) from error
        case _:
            raise ValueError(INVALID_DATE)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _toml_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
