"""How long a call waits for its job before it says that the job goes on.

A client gives a call up after a time of its own, and what it has not read by then it never reads.
So the answer, be it only that the job goes on, must come earlier.
"""

from dataclasses import dataclass

from perstack.server.caller import Caller
from perstack.server.schemas import DEFAULT_WAIT_SECONDS

GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of a server.

    Attributes:
        default_seconds: For a call that does not say it.
        grace_seconds: At most this, if the client takes a task instead.
    """

    default_seconds: float = DEFAULT_WAIT_SECONDS
    grace_seconds: float = GRACE_SECONDS

    def seconds(self, caller: Caller, asked: float | None) -> float:
        """How long a call of `caller` waits that asked for this."""
        wanted = self.default_seconds if asked is None else asked
        return min(wanted, self.grace_seconds) if caller.has_tasks else wanted
