"""The arguments that say how long a client's call waits for its job."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from perstack.server.calls.schemas import LONGEST_WAIT_SECONDS


def add_window_arguments(parser: ArgumentParser) -> None:
    """The arguments of the windows of `perstack serve`."""
    parser.add_argument(
        "--wait-seconds",
        type=_wait,
        action="append",
        default=[],
        metavar="[CLIENT=]N",
        help="how long a call waits for its job unless it says so itself; with CLIENT=, for the "
        "clients whose name begins so; repeatable; by default as long as the client is known to "
        "allow, else 45",
    )
    parser.add_argument(
        "--task-after",
        type=_seconds,
        default=None,
        metavar="N",
        help="seconds after which a call becomes a task, for clients that take one; by default 5",
    )


def window_settings(options: Namespace) -> dict[str, Any]:
    """What the arguments decide, by the attributes of `perstack.server.calls.windows.Windows`."""
    waits: list[tuple[str, float]] = options.wait_seconds
    by_client = {client: seconds for client, seconds in waits if client}
    decided: dict[str, Any] = {"by_client": by_client}
    for_all = [seconds for client, seconds in waits if not client]
    if for_all:
        decided["default_seconds"] = for_all[-1]
    if options.task_after is not None:
        decided["grace_seconds"] = options.task_after
    return decided


def _wait(text: str) -> tuple[str, float]:
    client, _, seconds = text.rpartition("=")
    return client.strip(), _seconds(seconds)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds <= LONGEST_WAIT_SECONDS:
        return seconds
    raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST_WAIT_SECONDS}")
