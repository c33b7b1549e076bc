"""What an expert is called as a tool."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.definition.references import EXPERT_KEY_PATTERN
from perstack.tool_names import MAX_EXPERT_TOOL_NAME, short_tool_name, tool_name, with_hash_suffix

KEYS = st.from_regex(EXPERT_KEY_PATTERN.removesuffix("$") + r"\Z").filter(
    lambda key: len(key) < 512
)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("reviewer", "reviewer"),
        ("create-expert", "create-expert"),
        ("@reviewer/file", "reviewer__file"),
        ("a.b", "a_b"),
        ("a@1.0.0", "a_1_0_0"),
        ("x" * 40, "x" * 40),
    ],
)
def test_a_name_is_made_from_the_key(key: str, name: str) -> None:
    assert tool_name(key) == name


def test_a_name_that_is_too_long_is_cut_and_stays_the_same_for_ever() -> None:
    assert tool_name("x" * 41) == "x" * 33 + "-316459"
    assert tool_name("x" * 41) != tool_name("x" * 42)


@pytest.mark.parametrize(
    ("key", "name"), [("@reviewer/file", "file"), ("other", "other"), ("@a/b.c", "b_c")]
)
def test_delegators_see_the_last_segment(key: str, name: str) -> None:
    assert short_tool_name(key) == name


@given(KEYS)
def test_every_name_fits_every_client(key: str) -> None:
    for name in (tool_name(key), short_tool_name(key), with_hash_suffix(tool_name(key), key)):
        assert re.fullmatch(rf"[a-z0-9_-]{{1,{MAX_EXPERT_TOOL_NAME}}}", name)
