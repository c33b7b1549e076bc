"""Tool names as providers accept them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from perstack.tool_names import property_wire_name, wire_name


@given(st.text(min_size=1, max_size=255))
def test_every_name_becomes_one_that_providers_accept(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}", wire_name(name))


@given(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}", fullmatch=True))
def test_a_name_that_fits_is_left_alone(name: str) -> None:
    assert wire_name(name) == name


@given(st.sets(st.text(min_size=1, max_size=80), min_size=1, max_size=20))
def test_different_names_stay_different(names: set[str]) -> None:
    assert len({wire_name(name) for name in names}) == len(names)


@given(st.text(max_size=255))
def test_every_property_gets_a_name_that_providers_accept(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}", property_wire_name(name))
