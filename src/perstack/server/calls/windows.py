"""How long a call waits for its job before it says that the job goes on.

A client gives a call up after a time of its own, and what it has not read by then it never reads.
So the answer, be it only that the job goes on, must come earlier.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from perstack.server.caller import Caller

DEFAULT_SECONDS = 45.0
"""Every client is known to wait this long."""

GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the calls of one client may wait, in seconds.

    Attributes:
        name: How the name begins that the client gives itself.
        local: If it has started the server.
        remote: If it talks to the server over HTTP.
    """

    name: str
    local: float
    remote: float


PATIENCE = (
    # Gives up after 30 minutes without a sign of life; over HTTP after 5.
    Patience("claude-code", local=1500, remote=240),
    # Gives up after 5 minutes, whatever it hears.
    Patience("codex", local=240, remote=240),
    # Give up after 10 minutes, whatever they hear.
    Patience("gemini-cli", local=540, remote=540),
    Patience("qwen", local=540, remote=540),
    # Gives up a minute after the last sign of life.
    Patience("opencode", local=300, remote=300),
)
"""The clients that are known to wait longer than others, unless somebody has set them otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of a server, in seconds.

    Attributes:
        default_seconds: For a call that does not say it. `None` is as long as its client is known
        to allow.
        by_client: The same for the clients whose name begins so.
        grace_seconds: At most this, if the client takes a task instead.
        is_remote: Whether clients talk to the server over HTTP.
    """

    default_seconds: float | None = None
    by_client: Mapping[str, float] = field(default_factory=dict[str, float])
    grace_seconds: float = GRACE_SECONDS
    is_remote: bool = False

    @property
    def advertised_seconds(self) -> float | None:
        """What all clients can be told; `None` if it depends on who asks."""
        return None if self.by_client else self.default_seconds

    def seconds(self, caller: Caller, asked: float | None) -> float:
        """How long a call of an expert waits that asked for this."""
        if caller.has_tasks:
            return self.grace_seconds if asked is None else min(asked, self.grace_seconds)
        return self.looking_seconds(caller, asked)

    def looking_seconds(self, caller: Caller, asked: float | None) -> float:
        """How long a call waits that looks after a job, and asked for this."""
        if asked is not None:
            return asked
        name = caller.client_name.casefold()
        if (chosen := _fitting(name, self.by_client)) is not None:
            return chosen
        if self.default_seconds is not None:
            return self.default_seconds
        known = {each.name: each.remote if self.is_remote else each.local for each in PATIENCE}
        return _fitting(name, known) or DEFAULT_SECONDS


def _fitting(name: str, seconds: Mapping[str, float]) -> float | None:
    # The longest name that fits says the most.
    fitting = [each for each in seconds if name.startswith(each.casefold())]
    return seconds[max(fitting, key=len)] if fitting else None
