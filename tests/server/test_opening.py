"""What all transports have in common, before the first client."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from perstack.server.caller import Caller
from perstack.server.users.opening import Offer, Served, prepared
from perstack.settings import Settings

pytestmark = pytest.mark.anyio

TOML = """
[provider]
providerName = "scripted"
[provider.setting]
script = "{script}"
[experts.a]
instruction = "Work."
"""


@asynccontextmanager
async def served(folder: Path, script: str) -> AsyncGenerator[Served]:
    """A server on definitions that play a script."""
    config = folder / "perstack.toml"
    config.write_text(TOML.format(script=script), encoding="utf-8")
    (folder / "script.toml").write_text('[[experts.a]]\ntext = "Done."\n', encoding="utf-8")
    one = prepared(Settings(config=config, environment={}, is_in_memory=True), Offer())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.reception.run, one.activity)
        yield one
        await one.reception.close(5)


async def edit(one: Served, script: str) -> None:
    one.live.loaded.path.write_text(TOML.format(script=script), encoding="utf-8")
    await one.live.take_in(one.adopt, one.changes.definitions_changed)


async def test_an_edit_puts_right_what_kept_the_engine_from_opening(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with served(tmp_path, "missing.toml") as one:
            await one.reception.open()
            assert not one.reception.is_open
            await edit(one, "script.toml")
            assert one.reception.is_open
            await one.reception.office(Caller())


async def test_an_edit_that_the_engine_cannot_use_leaves_it_open_as_it_was(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with served(tmp_path, "script.toml") as one:
            await one.reception.open()
            before = one.live.loaded
            await edit(one, "missing.toml")
            assert one.reception.is_open
            assert one.live.problems
            assert one.live.loaded is before
            assert one.reception.definitions() is before.definitions


async def test_an_edit_before_the_first_call_opens_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with served(tmp_path, "missing.toml") as one:
            await edit(one, "script.toml")
            assert not one.reception.settled.is_set()
            await one.reception.open()
            assert one.reception.is_open
