"""Exceptions that leave an anyio task group, which wraps each in an `ExceptionGroup`."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import cast


def first_exception(error: BaseException) -> BaseException:
    """The first exception that is not a group, at any depth of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


@contextmanager
def unwrap_group() -> Generator[None]:
    """Raise the only exception of a group instead of the group; a group of several stays one."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = first_exception(group)
        others = group.subgroup(
            lambda member: member is not error and not isinstance(member, BaseExceptionGroup)
        )
        if others is not None:
            raise
        raise error from error.__cause__
