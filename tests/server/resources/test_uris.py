"""Addresses are written and read the same way, and what is none is none."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.server.resources.uris import (
    MAX_QUERY_NUMBER,
    MAX_URI_CHARACTERS,
    TEMPLATES,
    InvalidResourceUriError,
    ResourceKind,
    ResourceUri,
    job_uri,
    parse_uri,
)

NAMES = st.text(min_size=1, max_size=60).filter(str.isprintable)
NUMBERS = st.integers(min_value=0, max_value=MAX_QUERY_NUMBER)


@given(st.sampled_from(list(TEMPLATES)), st.data())
def test_what_is_written_is_read_again(kind: ResourceKind, data: st.DataObject) -> None:
    shape = TEMPLATES[kind]
    names = {name: data.draw(NAMES) for name in shape.path_variables}
    numbers = {name: data.draw(NUMBERS) for name in shape.query_params}
    address = ResourceUri(kind, names, numbers)
    if len(address.text) <= MAX_URI_CHARACTERS:
        assert parse_uri(address.text) == address


@given(st.text(max_size=80))
def test_whatever_is_asked_for_is_an_address_or_none(text: str) -> None:
    for uri in (text, f"perstack://{text}", f"perstack://jobs/{text}"):
        with suppress(InvalidResourceUriError):
            found = parse_uri(uri)
            assert found is None or parse_uri(found.text) == found


@pytest.mark.parametrize(
    ("uri", "job_id"),
    [
        ("perstack://jobs/abc", "abc"),
        ("perstack://jobs/a%2Fb", "a/b"),
        ("perstack://jobs/..%2f..", "../.."),
    ],
)
def test_an_id_is_one_part_of_the_path(uri: str, job_id: str) -> None:
    assert parse_uri(uri) == job_uri("job", job_id)


@pytest.mark.parametrize(
    "uri",
    [
        "perstack:jobs",
        "PERSTACK://jobs",
        "perstack://jobs/",
        "perstack:///jobs",
        "perstack://jobs/a/b",
        "perstack://jobs/a/events/",
        "perstack://jobs/a%0Ab",
        "perstack://jobs/" + "a" * MAX_URI_CHARACTERS,
    ],
)
def test_what_is_no_address_is_none(uri: str) -> None:
    assert parse_uri(uri) is None


@pytest.mark.parametrize(
    "query", ["after=1.5", "after=+1", "after=9999999999", "after= 1", "offset=1", "x"]
)
def test_a_number_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(InvalidResourceUriError):
        parse_uri(f"perstack://jobs/a/events?{query}")


def test_templates_are_those_of_the_addresses() -> None:
    assert TEMPLATES["checkpoint"].text == (
        "perstack://jobs/{job_id}/checkpoints/{checkpoint_id}{?after}"
    )
    assert job_uri("events", "a b", after=3).text == "perstack://jobs/a%20b/events?after=3"
