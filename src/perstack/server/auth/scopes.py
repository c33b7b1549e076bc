"""What a token may do: the names of the scopes and what each of them allows.

Scopes narrow what a token can do with what belongs to its principal. No scope reaches anything of
another principal.
"""

import hashlib
import re
import unicodedata
from collections.abc import Set

MAX_SLUG_CHARACTERS = 24
HASH_CHARACTERS = 20
"""80 bits: nobody finds a second subject with the same id by trying."""


def principal_id(issuer: str, subject: str) -> str:
    """The id of `subject` of `issuer`: readable, safe as the name of a folder, and unique.

    A subject means something only to its issuer, so the same subject of two issuers is two
    principals.
    """
    digest = hashlib.sha256(f"{len(issuer)}:{issuer}{subject}".encode("utf-8", "surrogatepass"))
    return f"{_slugify(subject)}-{digest.hexdigest()[:HASH_CHARACTERS]}"


def _slugify(subject: str) -> str:
    plain = unicodedata.normalize("NFKD", subject).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:MAX_SLUG_CHARACTERS].strip("-") or "user"


RUN = "perstack:run"
"""Call every expert, and follow and stop the jobs that come of it."""

RUN_PREFIX = "perstack:run:"
"""Followed by an expert's key: call that one, and continue its jobs."""

READ_JOBS = "perstack:jobs.read"
"""See the principal's jobs: their state, results, events and checkpoints."""

CANCEL_JOBS = "perstack:jobs.cancel"
"""Stop the principal's jobs."""

ADMIN = "perstack:admin"
"""Everything."""

SCOPES = (RUN, READ_JOBS, CANCEL_JOBS, ADMIN)

Scopes = Set[str] | None
"""What a caller may do; `None` is everything."""


def may_run(scopes: Scopes, expert_key: str) -> bool:
    """Whether the expert may be called."""
    return _has_one_of(scopes, RUN, RUN_PREFIX + expert_key)


def may_read_jobs(scopes: Scopes) -> bool:
    """Whether the principal's jobs may be seen."""
    return _has_one_of(scopes, RUN, READ_JOBS)


def may_cancel_jobs(scopes: Scopes) -> bool:
    """Whether the principal's jobs may be stopped."""
    return _has_one_of(scopes, RUN, CANCEL_JOBS)


def has_all_scopes(scopes: Scopes) -> bool:
    """Whether nothing is withheld."""
    return _has_one_of(scopes)


def is_scope(text: str) -> bool:
    """Whether this is a scope that allows anything here."""
    return text in SCOPES or (text.startswith(RUN_PREFIX) and len(text) > len(RUN_PREFIX))


def _has_one_of(scopes: Scopes, *candidates: str) -> bool:
    return scopes is None or ADMIN in scopes or any(scope in scopes for scope in candidates)
