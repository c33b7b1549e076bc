"""Ids of tasks, and what they are made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.server.tasks.model import format_task_id, parse_task_id


def test_the_first_task_of_a_job_has_its_id() -> None:
    assert format_task_id("abc", 0) == "abc"
    assert format_task_id("abc", 2) == "abc.2"


@given(
    job_id=st.one_of(st.text(min_size=1), st.from_regex(r"[a-z]+(\.[0-9]+)?(~[0-9]+)?")),
    number=st.integers(0, 999_999),
    again=st.integers(0, 999_999),
)
def test_an_id_names_its_job_and_stretch_whatever_the_job_is_called(
    job_id: str, number: int, again: int
) -> None:
    assert parse_task_id(format_task_id(job_id, number)) == (job_id, number)
    # Earlier versions numbered the tasks of one activation.
    assert parse_task_id(f"{job_id}.{number}~{again}") == (job_id, number)


@pytest.mark.parametrize("given_id", ["", ".1", "~", "abc.x", "abc.1234567"])
def test_what_is_no_numbered_id_is_taken_for_a_job(given_id: str) -> None:
    assert parse_task_id(given_id) == (given_id, 0)
