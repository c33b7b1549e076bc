"""The command `perstack`. Decides what Ctrl-C does before anything else is loaded."""

import os
import signal
from types import FrameType

INTERRUPTED = 130


def main() -> int:
    """Execute the command of the process's arguments and return its exit code."""
    _leave_on_interrupt()
    from perstack.cli.main import main as execute  # noqa: PLC0415 - takes long enough to be interrupted
    from perstack.cli.process_end import force_exit_if_blocked  # noqa: PLC0415 - as above

    code = execute()
    _leave_on_interrupt()
    force_exit_if_blocked(code)
    return code


def _leave_on_interrupt() -> None:
    """End the process at once on SIGINT, unless its parent has it ignored.

    An exception, as Python raises it, may come up in any line, also in an import that turns it into
    something else, and shows a traceback.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"perstack: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    raise SystemExit(main())
