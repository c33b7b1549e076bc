"""Scopes of tokens and what they allow, and ids of principals.

A scope restricts what a token may do with the resources of its own principal; none gives access to
another principal's.
"""

import hashlib
import re
import unicodedata

MAX_SLUG_CHARACTERS = 24
HASH_CHARACTERS = 20
"""80 bits: collisions cannot be found by trying."""


def principal_id(issuer: str, subject: str) -> str:
    """The id of a subject of an issuer: readable, a safe folder name, and unique per issuer."""
    digest = hashlib.sha256(f"{len(issuer)}:{issuer}{subject}".encode("utf-8", "surrogatepass"))
    return f"{_slugify(subject)}-{digest.hexdigest()[:HASH_CHARACTERS]}"


def _slugify(subject: str) -> str:
    plain = unicodedata.normalize("NFKD", subject).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:MAX_SLUG_CHARACTERS].strip("-") or "user"


RUN = "perstack:run"
"""Call every expert, and read and cancel jobs."""

RUN_PREFIX = "perstack:run:"
"""With an expert's key: call that expert and continue its jobs."""

READ_JOBS = "perstack:jobs.read"
"""Read the principal's jobs: status, results, events and checkpoints."""

CANCEL_JOBS = "perstack:jobs.cancel"
"""Cancel the principal's jobs."""

ADMIN = "perstack:admin"
"""Everything."""

SCOPES = (RUN, READ_JOBS, CANCEL_JOBS, ADMIN)


def is_scope(text: str) -> bool:
    return text in SCOPES or (text.startswith(RUN_PREFIX) and len(text) > len(RUN_PREFIX))
