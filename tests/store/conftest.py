"""The two stores, opened alike."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from perstack.runtime.ports import Store
from perstack.store.memory import MemoryStore
from perstack.store.sqlite import open_sqlite_store
from tests.fakes import ManualClock
from tests.store.backend import Backend


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Backend, None]:
    clock = ManualClock(1_000_000, is_automatic=False)
    dead: set[str] = set()

    def is_alive(owner: str) -> bool:
        return owner not in dead

    async with AsyncExitStack() as opened:
        shared = MemoryStore(owner="us", clock=clock, is_alive=is_alive)

        async def open_as(owner: str) -> Store:
            if request.param == "memory":
                return shared.as_owner(owner)
            path = tmp_path / "perstack" / "store.db"
            return await opened.enter_async_context(
                open_sqlite_store(path, owner=owner, clock=clock, is_alive=is_alive)
            )

        yield Backend(open_as, clock, dead)


@pytest.fixture
async def store(backend: Backend) -> Store:
    return await backend.open_as("us")
