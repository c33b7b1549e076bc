"""What leaves a task group when a task of it fails."""

import anyio
import pytest

from perstack.task_groups import first_exception, unwrap_group


@pytest.mark.anyio
async def test_the_only_exception_of_nested_groups_leaves_them_alone_and_keeps_its_cause() -> None:
    cause = OSError("disk")
    failure = ValueError("bad")

    with pytest.raises(ValueError, match="bad") as raised, unwrap_group():
        async with anyio.create_task_group(), anyio.create_task_group():
            raise failure from cause

    assert raised.value is failure
    assert raised.value.__cause__ is cause


def test_a_group_of_several_exceptions_stays_a_group() -> None:
    group = ExceptionGroup("two", [ValueError("a"), KeyError("b")])

    with pytest.raises(ExceptionGroup) as raised, unwrap_group():
        raise group

    assert raised.value is group


def test_the_first_exception_is_found_at_any_depth() -> None:
    first = ValueError("a")

    assert (
        first_exception(ExceptionGroup("", [ExceptionGroup("", [first, KeyError("b")])])) is first
    )
    assert first_exception(first) is first
