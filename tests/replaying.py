"""Replays every job that an engine of a test has made: a plugin, `pytest -p tests.replaying`."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from perstack import engine
from perstack.core.events import CallDelegate, RunEvent, StartRun
from perstack.definition.loader import LoadedDefinitions, load_definitions
from perstack.definition.model import Definitions
from perstack.errors import DefinitionError, StoreError
from perstack.replay.runner import ReplayResult, replay
from perstack.runtime.context import JobContext
from perstack.runtime.ports import Store
from perstack.store.sqlite import open_sqlite_store
from tests import fakes

NUMBERS = "PERSTACK_REPLAY_NUMBERS"
"""The file that takes the numbers."""


@dataclass(slots=True)
class Tally:
    """What was replayed so far, and what has gone another way."""

    jobs: int = 0
    events: int = 0
    skipped: int = 0
    done: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    faults: list[str] = field(default_factory=list[str])


TALLY = Tally()


async def check(job_id: str, events: tuple[RunEvent, ...], definitions: Definitions) -> None:
    """Replay one job and count it."""
    TALLY.jobs += 1
    TALLY.events += len(events)
    try:
        found = await replay(events, definitions)
    except Exception as error:  # noqa: BLE001 - the border: it is told with the name of the test
        TALLY.faults.append(f"{_test()}: {job_id}: {type(error).__name__}: {error}")
        return
    if not found.is_identical:
        TALLY.faults.append(f"{_test()}: {job_id}: {_story(found)}")


def _test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]


def _story(found: ReplayResult) -> str:
    divergence = found.divergence
    assert divergence is not None
    recorded = divergence.recorded and f"{divergence.recorded.id} {divergence.recorded.type}"
    came = divergence.replayed and f"{divergence.replayed.id} {divergence.replayed.type}"
    values = "; ".join(
        f"{each.path}: {each.one!r} != {each.other!r}" for each in divergence.differences
    )
    instead = came or divergence.remark
    return f"{found.matched}/{found.events}: {recorded} recorded, {instead} came {values[:600]}"


@pytest.fixture(autouse=True)
def replay_of_what_engines_did(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Replays the jobs of every engine of the test as it closes."""
    used: dict[str, Definitions] = {}
    # The only place that every engine passes through, whatever it is made of.
    put_together: Callable[..., Any] = engine._build_context  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    adopt: Callable[..., Any] = engine.Engine.reload_definitions

    async def watched(settings: Any, parts: Any, loaded: Any, stack: AsyncExitStack) -> Any:
        around, models = await put_together(settings, parts, loaded, stack)
        used[around.loaded.digest] = around.loaded.definitions
        stack.push_async_callback(replay_all, around.store, used)
        return around, models

    async def adopting(self: engine.Engine, loaded: LoadedDefinitions) -> None:
        used[loaded.digest] = loaded.definitions
        await adopt(self, loaded)

    monkeypatch.setattr(engine, put_together.__name__, watched)
    monkeypatch.setattr(engine.Engine, adopt.__name__, adopting)
    before = len(TALLY.faults)
    yield
    if TALLY.faults[before:]:
        pytest.fail("\n".join(TALLY.faults[before:]), pytrace=False)


@pytest.fixture(autouse=True)
def replay_of_what_contexts_did(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Replays the jobs that a test did without an engine, on stores of its own."""
    made: dict[int, JobContext] = {}

    def watched(**parts: Any) -> JobContext:
        context = JobContext(**parts)
        made[id(context.store)] = context
        return context

    monkeypatch.setattr(fakes, "JobContext", watched)
    before = len(TALLY.faults)
    yield
    for context in made.values():
        store = context.store
        if isinstance(store, fakes.FakeStore) and _is_whole(store.events_written):
            _apart(check, context.job_id, tuple(store.events_written), context.definitions)
    if TALLY.faults[before:]:
        pytest.fail("\n".join(TALLY.faults[before:]), pytrace=False)


@pytest.fixture(autouse=True)
def replay_of_what_processes_did(request: pytest.FixtureRequest) -> Generator[None]:
    """Replays the jobs that a test left on the disk, whichever process did them."""
    before = len(TALLY.faults)
    yield
    folder: object = getattr(request.node, "funcargs", {}).get("tmp_path")
    if isinstance(folder, Path):
        _apart(_replay_below, folder)
    if TALLY.faults[before:]:
        pytest.fail("\n".join(TALLY.faults[before:]), pytrace=False)


def _apart(function: Callable[..., Any], *arguments: Any) -> None:
    """Run it in a thread of its own: in this one, fixtures of the test may still be at work."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(anyio.run, function, *arguments).result()


async def _replay_below(folder: Path) -> None:
    stores = [path for path in folder.rglob("store.db") if path.parent.name == "perstack"]
    used: dict[str, Definitions] = {}
    for config in folder.rglob("perstack.toml") if stores else ():
        try:
            loaded = load_definitions(config)
        except DefinitionError:
            continue
        used[loaded.digest] = loaded.definitions
    for path in stores:
        try:
            async with open_sqlite_store(path) as store:
                await replay_all(store, used)
        except StoreError:  # a test that damages its store
            continue


def _is_whole(events: Sequence[RunEvent]) -> bool:
    """Whether the job began in this store, and gave each run an id of its own."""
    assigned = [
        delegation.run_id
        for event in events
        if isinstance(event, CallDelegate)
        for delegation in event.delegate_to
    ]
    return bool(events) and isinstance(events[0], StartRun) and len(assigned) == len(set(assigned))


async def replay_all(store: Store, used: dict[str, Definitions]) -> None:
    """Replay the jobs of a store that were run with one definition file, which is known."""
    try:
        jobs = await store.jobs(limit=10_000)
    except StoreError:  # a test that takes the store away
        return
    for job in jobs:
        _, events = await store.events(job.id)
        hashes = {event.definition_hash for event in events if isinstance(event, StartRun)}
        definitions = used.get(hashes.pop() or "") if len(hashes) == 1 else None
        if (job.id, len(events)) in TALLY.done:
            continue
        TALLY.done.add((job.id, len(events)))
        if definitions is None:
            TALLY.skipped += 1
        else:
            await check(job.id, events, definitions)


def numbers() -> str:
    """What was replayed, in words."""
    return (
        f"replayed {TALLY.jobs} jobs, {TALLY.events} events: "
        f"{len(TALLY.faults)} not identical, {TALLY.skipped} left out"
    )


def pytest_sessionfinish() -> None:
    """Leave the numbers for who asked for them."""
    path = os.environ.get(NUMBERS)
    if path:
        Path(path).write_text(numbers(), encoding="utf-8")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell the numbers."""
    terminalreporter.write_line(numbers())
