"""What the exit code of a command says."""

from perstack.errors import (
    ConfigError,
    DefinitionError,
    JobStateError,
    NotFoundError,
    PerstackError,
    UnknownExpertError,
)

COMPLETED = 0
FAILED = 1
MISUSED = 2
WAITING = 3
LIMITED = 4
CANCELLED = 130

_MISUSE = (ConfigError, DefinitionError, JobStateError, NotFoundError, UnknownExpertError)
_OF_STATUS = {
    "completed": COMPLETED,
    "stoppedByInteractiveTool": WAITING,
    "stoppedByMaxSteps": LIMITED,
    "stoppedByCancellation": CANCELLED,
}


def exit_code_of(error: PerstackError) -> int:
    """The code for an error: whether the user or the surroundings must change something."""
    return MISUSED if isinstance(error, _MISUSE) else FAILED


def exit_code_for(status: str, error_name: str | None) -> int:
    """The code for a job that stopped with `status`, in an error of this name if in any."""
    if error_name == ConfigError.__name__:
        return MISUSED
    return _OF_STATUS.get(status, FAILED)
