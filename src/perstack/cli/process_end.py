"""The end of the process, which no thread may hold up."""

import os
import sys
import threading
from contextlib import suppress

THREAD_JOIN_SECONDS = 0.1


def force_exit_if_blocked(code: int) -> None:
    """Exit now if a non-daemon thread would block the interpreter's exit; else return.

    A worker thread that imports the model library cannot be interrupted, and the interpreter would
    wait seconds for it. Call this when everything is closed and only the exit code is left.
    """
    current = threading.current_thread()
    for thread in threading.enumerate():
        if thread is current or thread.daemon:
            continue
        thread.join(THREAD_JOIN_SECONDS)
        if thread.is_alive():
            if "logging" in sys.modules:
                sys.modules["logging"].shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)
