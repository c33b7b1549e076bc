"""A process that has everything imported, and forks one of its own for each order."""

import faulthandler
import importlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Self

from _stage import plain_environment

LIMIT_SECONDS = 60


class Worker:
    """The process as its owner sees it; use as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=plain_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, order_line: str) -> int:
        """Have a process carry out an order; returns its exit code, or the signal as a negative."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker was started without pipes")
        stdin.write(order_line + "\n")
        stdin.flush()
        return int(stdout.readline())


def main() -> None:
    """Fork for each line on stdin, and say on stdout how the child ended."""
    import anyio  # noqa: PLC0415 - the parent of the worker needs none of it
    from _kill_drive import Order, drive, order_of  # noqa: PLC0415 - as above

    def carry_out(order: Order) -> None:
        signal.alarm(LIMIT_SECONDS)
        log = os.open(Path(order.folder) / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        faulthandler.enable()
        anyio.run(drive, order)

    anyio.run(_import_the_rest)
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(LIMIT_SECONDS)
    if threading.active_count() != 1:
        raise RuntimeError(f"a fork would lose threads: {threading.enumerate()}")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                carry_out(order_of(line))
            except BaseException:  # noqa: BLE001 - what goes wrong in a child is for its log
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


async def _import_the_rest() -> None:
    """What the engine leaves for later, so that no child has to wait for it."""
    from perstack.definition.model import Definitions, Provider  # noqa: PLC0415 - see main
    from perstack.llm.model_factory import open_model  # noqa: PLC0415 - see main

    importlib.import_module("perstack.skills.server_connections")
    definitions = Definitions(model="any", provider=Provider(provider_name="openai"), experts={})
    model = open_model(definitions=definitions, environment={})
    await model.warm_up()
    await model.aclose()


if __name__ == "__main__":
    main()
