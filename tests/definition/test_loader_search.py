"""Where the definition file is looked for."""

from pathlib import Path

import pytest

from perstack.definition.loader import find_config
from perstack.errors import DefinitionError
from tests.definition.sample import EXPERT, write


def test_a_given_path_is_relative_to_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = write(tmp_path / "sub", EXPERT)

    assert find_config("sub/perstack.toml", tmp_path) == path.resolve()
    assert find_config(Path("sub/perstack.toml"), tmp_path) == path.resolve()


def test_a_given_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text(EXPERT, encoding="utf-8")

    assert find_config(str(path), Path("/nowhere")) == path.resolve()


def test_a_given_folder_means_the_file_in_it(tmp_path: Path) -> None:
    path = write(tmp_path, EXPERT)

    assert find_config(tmp_path, Path("/nowhere")) == path.resolve()


def test_a_given_link_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.toml").symlink_to(write(tmp_path / "real", EXPERT))

    assert find_config("link.toml", tmp_path) == tmp_path.resolve() / "link.toml"


@pytest.mark.parametrize("given", ["missing.toml", "no/such/folder/perstack.toml", "x" * 5000])
def test_a_given_path_that_is_not_there_is_named(tmp_path: Path, given: str) -> None:
    with pytest.raises(DefinitionError, match=f'Given config path "{given}" is not found'):
        find_config(given, tmp_path)


def test_a_given_folder_without_a_definition_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(DefinitionError, match='Given config path "empty" is not found'):
        find_config("empty", tmp_path)


@pytest.mark.parametrize("url", ["https://example.com/perstack.toml", "http://x/y", "HTTPS://x"])
def test_a_file_on_the_web_is_refused_with_what_to_do(tmp_path: Path, url: str) -> None:
    with pytest.raises(DefinitionError, match="Download it") as caught:
        find_config(url, tmp_path)

    assert "web" in caught.value.message


def test_the_nearest_file_above_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, EXPERT)
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)

    assert find_config(None, deep) == path

    nearer = write(tmp_path / "a", EXPERT)

    assert find_config(None, deep) == nearer


def test_a_folder_of_that_name_is_no_definition_file(tmp_path: Path) -> None:
    path = write(tmp_path, EXPERT)
    (tmp_path / "a" / "perstack.toml").mkdir(parents=True)

    assert find_config(None, tmp_path / "a") == path


def test_no_file_at_all_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        find_config(None, tmp_path)

    assert str(caught.value) == (
        "perstack.toml not found. Create one or specify its path with --config."
    )
