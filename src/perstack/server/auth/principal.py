"""Who a token speaks for: one short, stable id for an issuer's subject."""

import hashlib
import re
import unicodedata

MAX_READABLE = 24
HASH_CHARACTERS = 20
"""80 bits: nobody finds a second subject with the same id by trying."""


def principal_id(issuer: str, subject: str) -> str:
    """The id of `subject` of `issuer`: readable, safe as the name of a folder, and unique.

    A subject means something only to its issuer, so the same subject of two issuers is two
    principals.
    """
    digest = hashlib.sha256(f"{len(issuer)}:{issuer}{subject}".encode("utf-8", "surrogatepass"))
    return f"{_readable(subject)}-{digest.hexdigest()[:HASH_CHARACTERS]}"


def _readable(subject: str) -> str:
    plain = unicodedata.normalize("NFKD", subject).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:MAX_READABLE].strip("-") or "user"
