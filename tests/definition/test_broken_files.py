"""Files that are no TOML, no text or no files."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perstack.definition.diagnostics import InvalidDefinitionError
from perstack.definition.loader import MAX_DEFINITION_BYTES, load_definitions
from perstack.errors import DefinitionError
from tests.definition.sample import COMPLETE, EXPERT, accepted, problems, refused, write

SYNTAX = {
    'model = "x\n': "1:11: a string has no closing quote on its line",
    'a = """x\n\n': "a string has no closing quotes",
    "a = [1, 2\n": "a list has no closing ] or lacks a comma",
    "a = [1 2]\n": "1:8: a list has no closing ] or lacks a comma",
    "a = { b = 1\n": "an inline table has no closing } or lacks a comma",
    "[experts\n": "1:9: a table header has no closing ]",
    "experts a = 1\n": "1:9: a key has no = after it",
    "a = yes\n": "1:5: this is no TOML value (put texts in quotes)",
    "a = \n": "1:5: this is no TOML value",
    'a = "\\d"\n': "a backslash in a string starts no escape",
    'a = "\\uZZZZ"\n': "a \\u escape lacks its hexadecimal digits",
    'a = "\x01"\n': "a character is not allowed here",
    'a = "x" b = 1\n': "1:9: something follows a value on its line",
    "= 1\n": "1:1: this is neither a key nor a table header",
    "a. = 1\n": "1:4: a key cannot begin like this",
    "a = 2026-02-30\n": "invalid date",
    "a = 1\na = 2\n": "2:1: a: stands twice, first in line 1 (keep one of them)",
    "a = 1\nb = '''\n\n'''\na = 2\n": "5:1: a: stands twice, first in line 1",
    EXPERT + EXPERT: '3:10: experts."a": stands twice, first in line 1',
    "a = { b = 1, b = 2 }\n": "1:14: a.b: stands twice, first in line 1",
    "a = 1\n[a]\n": "2:2: a: stands twice, first in line 1",
    "a = [1]\n[[a]]\n": "a list or inline table cannot be extended",
    "a = " + "9" * 5000 + "\n": "1:5: the file has a number with far too many digits",
    "a = " + "[" * 5000: "1:1: lists or tables are nested too deeply",
}


@pytest.mark.parametrize("content", SYNTAX)
def test_broken_toml_is_explained_at_its_place(tmp_path: Path, content: str) -> None:
    (problem,) = problems(tmp_path, content)

    assert problem.startswith("perstack.toml:")
    assert SYNTAX[content] in problem


def test_columns_count_characters_and_not_bytes(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, 'a = { "äöü" = 1, b = yes }\n')

    assert problem.startswith("perstack.toml:1:22:")


@pytest.mark.parametrize("content", [b"\xff\xfea\x00", b"\xfe\xff\x00a"])
def test_utf_16_is_named(tmp_path: Path, content: bytes) -> None:
    assert problems(tmp_path, content) == [
        "perstack.toml:1:1: the file is UTF-16 (save the file as UTF-8)"
    ]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_no_text_are_named_with_their_place(tmp_path: Path, mark: bytes) -> None:
    assert problems(tmp_path, mark + 'a = 1\nb = "ü'.encode() + b'\x80"') == [
        "perstack.toml:2:7: the file is not UTF-8 text (save the file as UTF-8)"
    ]


def test_a_byte_order_mark_is_harmless(tmp_path: Path) -> None:
    loaded = accepted(tmp_path, b"\xef\xbb\xbf" + COMPLETE.encode())

    assert list(loaded.definitions.experts) == ["reviewer", "@reviewer/file"]


def test_windows_line_ends_are_harmless_and_do_not_shift_positions(tmp_path: Path) -> None:
    assert accepted(tmp_path, COMPLETE.replace("\n", "\r\n")).warnings == ()

    broken = EXPERT.replace("\n", "\r\n") + "tags = [\r\n  5,\r\n]\r\n"

    assert problems(tmp_path, broken) == [
        'perstack.toml:4:3: experts."a".tags[0]: must be a text in quotes, not a number'
    ]


def test_a_folder_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="is a folder"):
        load_definitions(tmp_path)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="is not found"):
        load_definitions(tmp_path / "perstack.toml")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot be read: File name too long"):
        load_definitions(tmp_path / ("x" * 300))


def test_a_path_that_no_file_can_have_says_why(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_definitions(tmp_path / "x\0y")


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="has more than"):
        load_definitions(write(tmp_path, b"#" * (MAX_DEFINITION_BYTES + 1)))


def test_a_syntax_error_has_one_problem_with_its_place(tmp_path: Path) -> None:
    error = refused(tmp_path, "a = 1\nb = yes\n")

    (detail,) = error.details
    assert (detail.line, detail.column, detail.key_path) == (2, 5, ())
    assert str(error).startswith(f"{tmp_path / 'perstack.toml'} has 1 problem:\n")


def lines_are_in_the_file(folder: Path, content: bytes) -> None:
    count = content.count(b"\n") + 1
    try:
        found = load_definitions(write(folder, content)).warnings
    except InvalidDefinitionError as error:
        found = error.details + error.warnings
    assert all(one.line is None or 1 <= one.line <= count for one in found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_explained(folder: Path, content: bytes) -> None:
    lines_are_in_the_file(folder, content)


@settings(deadline=None, max_examples=400)
@given(
    st.integers(0, len(COMPLETE)),
    st.integers(0, 40),
    st.sampled_from(["", '"', "'", "[", "]", "{", "}", "=", ".", "\n", "#", ",", "\\", '"""', "5"]),
)
def test_a_file_with_a_torn_place_is_accepted_or_explained(
    folder: Path, start: int, length: int, insert: str
) -> None:
    torn = COMPLETE[:start] + insert + COMPLETE[start + length :]
    lines_are_in_the_file(folder, torn.encode())


def test_a_file_cut_off_anywhere_is_accepted_or_explained(folder: Path) -> None:
    for end in range(0, len(COMPLETE), 3):
        lines_are_in_the_file(folder, COMPLETE[:end].encode())
