"""The end of a process that served."""

import logging
import os
import signal
import sys
import threading
from contextlib import suppress

import anyio

GRACE_SECONDS = 0.1


async def asked_to_end() -> None:
    """Return once the process is sent SIGTERM or SIGINT, which do nothing else meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        await anyio.sleep_forever()  # only the main thread can be told of signals
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


def end_if_held_up(code: int) -> None:
    """End the process now if a thread would hold it up; else return.

    A client that leaves soon after it came meets a server whose worker thread is importing the
    library of the models. Nothing can interrupt that, and the interpreter would wait seconds for
    it. To be called when everything is closed and only the exit code is left to give.
    """
    own = threading.current_thread()
    for thread in threading.enumerate():
        if thread is not own and not thread.daemon:
            thread.join(GRACE_SECONDS)
            if thread.is_alive():
                _end(code)


def _end(code: int) -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
