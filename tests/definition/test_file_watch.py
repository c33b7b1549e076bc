"""Whatever puts another content into a file is noticed, without reading it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from perstack.definition.file_watch import FileWatch


def rewrite(file: Path) -> None:
    file.write_text("other", encoding="utf-8")


def replace(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_text("first", encoding="utf-8")
    new.replace(file)


def rewrite_and_hide_it(file: Path) -> None:
    before = file.stat()
    file.write_text("FIRST", encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("edit", [rewrite, replace, rewrite_and_hide_it, Path.unlink])
def test_an_edit_is_noticed_once(tmp_path: Path, edit: Callable[[Path], object]) -> None:
    file = tmp_path / "perstack.toml"
    file.write_text("first", encoding="utf-8")
    watch = FileWatch(file)
    assert not watch.has_changed()
    edit(file)
    assert watch.has_changed()
    assert not watch.has_changed()


def test_a_file_that_comes_back_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "perstack.toml"
    watch = FileWatch(file)
    assert not watch.has_changed()
    file.write_text("here", encoding="utf-8")
    assert watch.has_changed()


def test_an_edit_behind_a_link_is_noticed(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for target in (first, second):
        target.write_text("same", encoding="utf-8")
    link = tmp_path / "perstack.toml"
    link.symlink_to(first)
    watch = FileWatch(link)
    first.write_text("else", encoding="utf-8")
    assert watch.has_changed()
    link.unlink()
    link.symlink_to(second)
    assert watch.has_changed()
    second.unlink()
    assert watch.has_changed()
    assert not watch.has_changed()


def test_a_folder_on_the_way_that_is_moved_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "perstack.toml").write_text("first", encoding="utf-8")
    watch = FileWatch(folder / "perstack.toml")
    folder.rename(tmp_path / "away")
    assert watch.has_changed()
