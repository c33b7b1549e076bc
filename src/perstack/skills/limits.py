"""How long the skills of a job may take for what they do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds; generous, because the first start of a server may download it.

    Attributes:
        start_seconds: From the first attempt until a server's tools are known.
        call_seconds: For one call of a tool.
        grace_seconds: For a process to end after its stdin has ended, and again after SIGTERM.
        close_seconds: For ending a session over HTTP.
    """

    start_seconds: float = 60.0
    call_seconds: float = 600.0
    grace_seconds: float = 2.0
    close_seconds: float = 5.0
