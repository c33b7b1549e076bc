"""A job's events as they are written down, by whatever process drives it."""

from collections.abc import Callable

from perstack.cli.history import Entry, Reader
from perstack.runtime.ports import Clock

LOOK_SECONDS = 0.2
"""Between two looks into the store."""


async def follow(
    reader: Reader,
    clock: Clock,
    show: Callable[[tuple[Entry, ...]], bool],
) -> None:
    """Show events until the job has stopped and all is shown, or `show` wants no more.

    Args:
        reader: The job, not yet read.
        clock: Waits between two looks.
        show: Takes what is new; false if nothing more is to be shown.

    Raises:
        NotFoundError: There is no such job.
        StoreError: The store cannot be read.
    """
    while show(await reader.read()) and not reader.has_stopped:
        await clock.sleep(LOOK_SECONDS)
