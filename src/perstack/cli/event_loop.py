"""The event loop of the commands that run experts or serve them."""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


def run_async(function: Callable[[*Arguments], Awaitable[T]], *arguments: *Arguments) -> T:
    """Run `function` to its end, on uvloop where that is installed.

    A run waits for sockets, pipes and the writing thread in turn, and with asyncio's own loop that
    takes a tenth of what a step costs.
    """
    has_uvloop = find_spec("uvloop") is not None
    return anyio.run(function, *arguments, backend_options={"use_uvloop": has_uvloop})
