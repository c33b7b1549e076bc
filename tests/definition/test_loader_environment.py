"""How variables come from the process and from `.env` files."""

import os
from pathlib import Path

import pytest

from perstack.definition.loader import load_environment
from perstack.errors import ConfigError

FILES = (".env", ".env.local")


def write(folder: Path, text: str, name: str = ".env") -> None:
    (folder / name).write_text(text, encoding="utf-8")


def test_what_the_process_has_set_stays(tmp_path: Path) -> None:
    write(tmp_path, "NAME=from the file\n")
    loaded = load_environment(FILES, (tmp_path,), {"NAME": "from the process"}, must_exist=False)
    assert loaded == {"NAME": "from the process"}


def test_the_last_file_that_sets_a_name_wins(tmp_path: Path) -> None:
    write(tmp_path, "A=first\n")
    write(tmp_path, "A=second\nB=second\n", ".env.local")
    assert load_environment(FILES, (tmp_path,), {}, must_exist=False) == {
        "A": "second",
        "B": "second",
    }


def test_an_empty_variable_of_the_process_gives_way_to_the_file(tmp_path: Path) -> None:
    write(tmp_path, "NAME=value\n")
    assert load_environment(FILES, (tmp_path,), {"NAME": ""}, must_exist=False) == {"NAME": "value"}


def test_empty_values_are_dropped_wherever_they_stand(tmp_path: Path) -> None:
    write(tmp_path, "A=\nB=''\nC\n")
    assert load_environment(FILES, (tmp_path,), {"D": ""}, must_exist=False) == {}


def test_an_empty_value_of_one_file_leaves_the_name_to_the_next(tmp_path: Path) -> None:
    write(tmp_path, "A=\n")
    write(tmp_path, "A=value\n", ".env.local")
    assert load_environment(FILES, (tmp_path,), {}, must_exist=False) == {"A": "value"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("export X=plain", "plain"),
        ('X="in double quotes"', "in double quotes"),
        ("X='in single quotes'", "in single quotes"),
        ("X=value # a comment", "value"),
        ("X='not # a comment'", "not # a comment"),
        ("X=a=b", "a=b"),
        ("  X = spaced  ", "spaced"),
        ('X="two\\nlines"', "two\nlines"),
        ("# X=no\nX=yes", "yes"),
        ("X=$HOME/${USER}", "$HOME/${USER}"),
        ("X=ümläut", "ümläut"),
    ],
)
def test_a_line_is_read_as_shells_write_it(tmp_path: Path, line: str, value: str) -> None:
    write(tmp_path, line + "\n")
    assert load_environment(FILES, (tmp_path,), {}, must_exist=False) == {"X": value}


@pytest.mark.parametrize("text", ["\ufeffX=value\n", "A=1\r\nX=value\r\n"])
def test_a_file_saved_by_another_editor_is_read_alike(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_bytes(text.encode())
    assert load_environment(FILES, (tmp_path,), {}, must_exist=False)["X"] == "value"


def test_a_usual_file_may_be_missing(tmp_path: Path) -> None:
    assert load_environment(FILES, (tmp_path,), {"A": "1"}, must_exist=False) == {"A": "1"}


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"secrets\.env"):
        load_environment(["secrets.env"], (tmp_path,), {}, must_exist=True)


def test_a_folder_is_no_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    with pytest.raises(ConfigError, match="secrets"):
        load_environment(["secrets"], (tmp_path,), {}, must_exist=True)


def test_a_file_that_is_no_text_is_named_without_its_content(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"TOKEN=hunter2\xff\n")
    with pytest.raises(ConfigError, match=r"\.env") as caught:
        load_environment(FILES, (tmp_path,), {}, must_exist=False)
    assert "hunter2" not in str(caught.value)


def test_loading_changes_neither_the_process_nor_what_was_given(tmp_path: Path) -> None:
    write(tmp_path, "PERSTACK_TEST_NAME=value\n")
    before, base = dict(os.environ), {"A": "1", "B": ""}
    load_environment(FILES, (tmp_path,), base, must_exist=False)
    assert dict(os.environ) == before
    assert base == {"A": "1", "B": ""}


def test_files_of_the_first_folder_win_and_those_of_the_next_add_what_is_not_set(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    write(first, "A=first\n")
    write(second, "B=second\n")
    write(second, "A=second\nB=local\n", ".env.local")
    loaded = load_environment(FILES, (first, second), {}, must_exist=False)
    assert loaded == {"A": "first", "B": "local"}


def test_a_file_that_was_asked_for_is_read_in_the_first_folder_that_has_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    write(first, "A=first\n", "a.env")
    write(second, "A=second\nB=second\n", "a.env")
    write(second, "C=second\n", "c.env")
    loaded = load_environment(["a.env", "c.env"], (first, second), {}, must_exist=True)
    assert loaded == {"A": "first", "C": "second"}


def test_a_file_that_no_folder_has_is_reported_with_the_places_looked_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_environment(["x.env"], (tmp_path, tmp_path / "lib"), {}, must_exist=True)
    assert f"looked in {tmp_path} and {tmp_path / 'lib'}" in str(caught.value)
