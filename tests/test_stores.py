"""Stores by their URL."""

from pathlib import Path

import pytest

from perstack.errors import ConfigError
from perstack.stores import has_unfinished_jobs, open_store, sqlite_url, store_path

pytestmark = pytest.mark.anyio


async def test_a_sqlite_url_opens_the_store_of_a_workspace(tmp_path: Path) -> None:
    async with open_store(sqlite_url(store_path(tmp_path))) as store:
        assert await store.jobs() == ()

    assert (tmp_path / "perstack" / "store.db").is_file()
    assert not has_unfinished_jobs(tmp_path, 0)


@pytest.mark.parametrize("url", ["mysql://host/jobs", "store.db", ""])
async def test_another_url_is_refused_with_the_one_that_works(url: str) -> None:
    with pytest.raises(ConfigError, match=r"There is no store for .*Use sqlite://"):
        async with open_store(url):
            pass


async def test_a_workspace_without_a_store_has_no_unfinished_jobs(tmp_path: Path) -> None:
    assert not has_unfinished_jobs(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
