"""Searching text by patterns that a model wrote, whatever they are."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.text_search import (
    EXCERPT_CHARACTERS,
    PIECE_CHARACTERS,
    SearchPattern,
    SearchTimeoutError,
)


def found(pattern: str, text: str, start: int = 0) -> list[tuple[int, int, str]]:
    return [
        (match.line, match.offset, match.excerpt)
        for match in SearchPattern(pattern).search(text, start)
    ]


def test_each_line_with_a_match_is_found_with_its_number_and_offset() -> None:
    text = "alpha\nbeta\n\ngamma ray\nalphabet"

    assert found("^alpha", text) == [(0, 0, "alpha"), (4, 22, "alphabet")]
    assert found("^$", text) == [(2, 11, "")]


def test_a_search_goes_on_from_the_line_of_an_offset() -> None:
    assert found("a", "a1\na2\na3\n", start=4) == [(1, 3, "a2"), (2, 6, "a3")]
    assert found("a", "a1\n", start=3) == []


def test_a_text_that_is_no_unicode_is_searched_all_the_same() -> None:
    assert found("needle", "\ud800 a needle") == [(0, 0, "\ufffd a needle")]


def test_case_can_be_ignored() -> None:
    assert found("ERROR", "an error") == []
    assert next(SearchPattern("ERROR", ignores_case=True).search("an error")).line == 0


def test_every_place_in_one_long_line_is_found_with_what_stands_around_it() -> None:
    filler = "-" * 5_000
    text = f"{filler}needle1{filler}needle2{filler}"

    places = found(r"needle\d", text)

    assert [excerpt.strip("-") for _, _, excerpt in places] == ["needle1", "needle2"]
    for line, offset, excerpt in places:
        assert line == 0
        assert len(excerpt) == EXCERPT_CHARACTERS
        assert text[offset : offset + len(excerpt)] == excerpt


@given(st.integers(0, 3 * PIECE_CHARACTERS), st.integers(0, PIECE_CHARACTERS))
def test_no_place_in_a_long_line_is_lost_between_its_pieces(before: int, after: int) -> None:
    text = "." * before + "needle" + "." * after

    assert ["needle" in excerpt for _, _, excerpt in found("needle", text)] == [True]


# With an engine that goes back, each of these takes longer than the age of the universe.
@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "(.*a){20}b", "(a?){40}a{40}b", r"(([a-z])+.)+\d"]
)
def test_a_pattern_that_would_never_end_elsewhere_ends_here(pattern: str) -> None:
    assert found(pattern, f"{'a' * 30_000}!\n{'a' * 100}!\nend") == []


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("foo(", "unclosed group"),
        ("*", "missing expression"),
        ("(?=a)b", "look-around"),
        (r"(a)\1", "backreferences"),
        ("a" * 501, "501 characters"),
        ("(.{1,100}){1,100}", "repeats too much"),
        ("((a{10}){10}){10}", "repeats too much"),
        (r"\w{400}", "size limit"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_with_the_reason(
    pattern: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        SearchPattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"[](]{3}\({2}",
        r"\bclass\s+\w+\(.*\):$",
    ],
)
def test_patterns_that_people_use_are_not_too_large(pattern: str) -> None:
    assert SearchPattern(pattern)


def test_a_search_ends_at_its_deadline_and_says_how_far_it_came() -> None:
    with pytest.raises(SearchTimeoutError) as caught:
        list(SearchPattern("b").search("a\na\n", 2, deadline=time.monotonic() - 1))

    assert caught.value.offset == 2
