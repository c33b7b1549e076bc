"""What all transports have in common, before the first client."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from perstack.server.bootstrap import ServerOptions, ServerRuntime, create_runtime
from perstack.server.caller import Caller
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
async def served(folder: Path, script: str) -> AsyncGenerator[ServerRuntime]:
    """A server on definitions that play a script."""
    config = folder / "perstack.toml"
    config.write_text(TOML.format(script=script), encoding="utf-8")
    (folder / "script.toml").write_text('[[experts.a]]\ntext = "Done."\n', encoding="utf-8")
    one = create_runtime(
        Settings(config=config, environment={}, is_in_memory=True), ServerOptions()
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.tenants.run, one.activity)
        yield one
        await one.tenants.close(5)


async def edit(one: ServerRuntime, script: str) -> None:
    one.definitions_watcher.loaded.path.write_text(TOML.format(script=script), encoding="utf-8")
    await one.definitions_watcher.reload()


async def test_an_edit_puts_right_what_kept_the_engine_from_opening(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with served(tmp_path, "missing.toml") as one:
            await one.tenants.open()
            assert not one.tenants.is_open
            await edit(one, "script.toml")
            assert one.tenants.is_open
            await one.tenants.services_for(Caller())


async def test_an_edit_that_the_engine_cannot_use_leaves_it_open_as_it_was(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with served(tmp_path, "script.toml") as one:
            await one.tenants.open()
            before = one.definitions_watcher.loaded
            await edit(one, "missing.toml")
            assert one.tenants.is_open
            assert one.definitions_watcher.problems
            assert one.definitions_watcher.loaded is before
            assert one.tenants.definitions() is before.definitions


async def test_an_edit_before_the_first_call_opens_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with served(tmp_path, "missing.toml") as one:
            await edit(one, "script.toml")
            assert not one.tenants.ready.is_set()
            await one.tenants.open()
            assert one.tenants.is_open
