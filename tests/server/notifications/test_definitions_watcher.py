"""The definition file while it is served: every edit is taken as a whole or not at all."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from perstack.definition.file_watch import FileWatch
from perstack.definition.loader import LoadedDefinitions, load_definitions
from perstack.definition.model import Definitions
from perstack.errors import ConfigError
from perstack.server.notifications.definitions_watcher import DefinitionsWatcher, WatchIntervals
from perstack.settings import Settings

pytestmark = pytest.mark.anyio

PACE = WatchIntervals(poll_seconds=0.005, settle_seconds=0.02)
FIRST = '[experts."a"]\ninstruction = "Work."\n'
SECOND = FIRST + '[experts."b"]\ninstruction = "Work too."\n'
BROKEN = '# An edit.\n\n[experts."a"]\ninstruktion = "Work."\n'
PARTLY_BROKEN = FIRST.replace("Work", "Work on") + '[experts."b"]\ninstruktion = "Work too."\n'


@dataclass
class Server:
    """Notes what it is to use."""

    adopted: list[LoadedDefinitions] = field(default_factory=list[LoadedDefinitions])
    announced: list[tuple[set[str], set[str]]] = field(
        default_factory=list[tuple[set[str], set[str]]]
    )
    reports: int = 0
    failure: Exception | None = None
    news: anyio.Event = field(default_factory=anyio.Event)

    async def adopt(self, loaded: LoadedDefinitions) -> None:
        if self.failure is not None:
            raise self.failure
        self.adopted.append(loaded)

    def announce(self, old: Definitions, new: Definitions) -> None:
        if old is new:
            self.reports += 1
            return
        self.announced.append((set(old.experts), set(new.experts)))
        self.news.set()
        self.news = anyio.Event()


def live_on(
    folder: Path,
    text: str = FIRST,
    settings: Settings | None = None,
    watch: Callable[[Path], FileWatch] = FileWatch,
) -> tuple[DefinitionsWatcher, Server]:
    file = folder / "perstack.toml"
    file.write_text(text, encoding="utf-8")
    server = Server()
    live = DefinitionsWatcher(
        load_definitions(file),
        settings or Settings(),
        server.adopt,
        server.announce,
        file_watch=watch(file),
        intervals=PACE,
    )
    return live, server


async def edit(live: DefinitionsWatcher, text: str) -> None:
    live.loaded.path.write_text(text, encoding="utf-8")
    await live.reload()


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [
        record.getMessage()
        for record in caplog.records
        if record.name.endswith("definitions_watcher")
    ]
    caplog.clear()
    return found


async def test_an_edit_is_used_and_announced(tmp_path: Path) -> None:
    live, server = live_on(tmp_path)
    await edit(live, SECOND)
    assert set(live.loaded.definitions.experts) == {"a", "b"}
    assert server.adopted == [live.loaded]
    assert server.announced == [({"a"}, {"a", "b"})]


async def test_a_file_that_is_written_again_as_it_was_changes_nothing(tmp_path: Path) -> None:
    live, server = live_on(tmp_path)
    await edit(live, FIRST)
    assert (server.adopted, server.announced) == ([], [])


async def test_a_broken_edit_leaves_the_set_before_and_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, server = live_on(tmp_path)
    for _ in range(3):
        await edit(live, BROKEN)
    assert set(live.loaded.definitions.experts) == {"a"}
    assert (server.adopted, server.announced) == ([], [])
    (problem,) = live.problems
    assert problem.startswith("perstack.toml:3:")
    (report,) = logged(caplog)
    assert "perstack.toml:3:" in report
    assert "stay in use" in report
    assert server.reports == 1


async def test_an_edit_that_breaks_one_expert_is_used_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, server = live_on(tmp_path, SECOND)
    for _ in range(3):
        await edit(live, PARTLY_BROKEN)
    (adopted,) = server.adopted
    assert adopted.definitions.experts["a"].instruction == "Work on."
    assert set(live.loaded.definitions.experts) == {"a"}
    assert server.announced == [({"a", "b"}, {"a"})]
    (problem,) = live.problems
    assert problem.startswith("perstack.toml:3:")
    assert "Expert 'b' is left out" in problem
    assert [message for message in logged(caplog) if "left out" in message] == [
        f"perstack: {problem}"
    ]

    await edit(live, SECOND)

    assert live.problems == ()
    assert logged(caplog) == [f"perstack: {live.loaded.path} is in order again."]
    assert server.announced[1:] == [({"a"}, {"a", "b"})]


async def test_a_strict_server_takes_an_edit_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    live, server = live_on(tmp_path, SECOND, Settings(is_strict=True))
    await edit(live, PARTLY_BROKEN)
    assert (server.adopted, server.announced) == ([], [])
    assert len(live.problems) > 0


async def test_another_mistake_is_another_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, _ = live_on(tmp_path)
    await edit(live, BROKEN)
    await edit(live, "[[[")
    assert len(logged(caplog)) == 2
    assert live.problems[0].startswith("perstack.toml:1:")


@pytest.mark.parametrize("repaired", [FIRST, SECOND])
async def test_the_repair_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, repaired: str
) -> None:
    live, server = live_on(tmp_path)
    await edit(live, BROKEN)
    caplog.clear()
    await edit(live, repaired)
    assert live.problems == ()
    assert logged(caplog) == [f"perstack: {live.loaded.path} is in order again."]
    assert server.reports == 2
    assert len(live.loaded.definitions.experts) == len(
        load_definitions(live.loaded.path).definitions.experts
    )


async def test_what_the_engine_cannot_use_is_not_used(tmp_path: Path) -> None:
    live, server = live_on(tmp_path)
    server.failure = ConfigError("There is no such script.")
    await edit(live, SECOND)
    assert set(live.loaded.definitions.experts) == {"a"}
    assert server.announced == []
    assert live.problems == ("There is no such script.",)
    server.failure = None
    await edit(live, SECOND)
    assert set(live.loaded.definitions.experts) == {"a", "b"}


@pytest.mark.parametrize("text", ["", "\n\n", 'model = "m"\n'])
async def test_a_file_without_experts_is_taken_for_one_that_is_not_written_yet(
    tmp_path: Path, text: str
) -> None:
    live, _ = live_on(tmp_path)
    await edit(live, text)
    assert set(live.loaded.definitions.experts) == {"a"}
    assert "no expert" in live.problems[0]


async def test_a_bug_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, server = live_on(tmp_path)
    server.failure = RuntimeError("a bug")
    await edit(live, SECOND)
    assert set(live.loaded.definitions.experts) == {"a"}
    assert "could not be taken in" in logged(caplog)[0]


async def test_new_warnings_are_logged_and_known_ones_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = FIRST + 'colour = "red"\n'
    live, _ = live_on(tmp_path, odd)
    await edit(live, odd + "# the same place\n")
    assert logged(caplog) == []
    await edit(live, odd + 'sound = "loud"\n')
    (warning,) = logged(caplog)
    assert "sound" in warning


@pytest.mark.parametrize("has_env_paths", [False, True])
async def test_a_setting_of_the_start_asks_for_another_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, has_env_paths: bool
) -> None:
    settings = Settings(env_paths=(".env",) if has_env_paths else None)
    live, _ = live_on(tmp_path, settings=settings)
    moved = 'envPath = [".env.other"]\n' + FIRST
    await edit(live, moved)
    assert [("envPath" in line) for line in logged(caplog)] == [True] * (not has_env_paths)
    await edit(live, moved + "# an edit of something else\n")
    assert logged(caplog) == []


@asynccontextmanager
async def watching(live: DefinitionsWatcher) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live.watch)
        with anyio.fail_after(30):
            yield
        tasks.cancel_scope.cancel()


def rewrite(file: Path) -> None:
    file.write_text(SECOND, encoding="utf-8")


def rename_over(file: Path) -> None:
    new = file.with_name("perstack.toml~")
    new.write_text(SECOND, encoding="utf-8")
    new.replace(file)


def delete_and_write(file: Path) -> None:
    file.unlink()
    file.write_text(SECOND, encoding="utf-8")


def point_elsewhere(file: Path) -> None:
    (file.parent / "other").write_text(SECOND, encoding="utf-8")
    file.unlink()
    file.symlink_to("other")


@pytest.mark.parametrize("save", [rewrite, rename_over, delete_and_write, point_elsewhere])
async def test_an_edit_is_found_however_it_is_saved(
    tmp_path: Path, save: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    live, server = live_on(tmp_path)
    async with watching(live):
        save(live.loaded.path)
        await server.news.wait()
    assert set(live.loaded.definitions.experts) == {"a", "b"}
    assert logged(caplog) == []


class AtWork(FileWatch):
    """A file that an editor empties, and then writes piece by piece between the looks."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.pieces = iter(["", *SECOND.splitlines(keepends=True)])

    def has_changed(self) -> bool:
        piece = next(self.pieces, None)
        if piece is not None:
            with self._path.open("a" if piece else "w", encoding="utf-8") as file:
                file.write(piece)
        return super().has_changed()


async def test_a_file_that_is_being_written_is_read_when_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, server = live_on(tmp_path, watch=AtWork)
    async with watching(live):
        await server.news.wait()
    assert server.announced == [({"a"}, {"a", "b"})]
    assert logged(caplog) == []


async def test_a_file_that_is_gone_for_a_while_is_reported_and_taken_up_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, server = live_on(tmp_path)
    reported = anyio.Event()

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reported.set()

    handler = Note()
    log = logging.getLogger("perstack.server.notifications.definitions_watcher")
    log.addHandler(handler)
    try:
        async with watching(live):
            live.loaded.path.unlink()
            await reported.wait()
            assert set(live.loaded.definitions.experts) == {"a"}
            rewrite(live.loaded.path)
            await server.news.wait()
    finally:
        log.removeHandler(handler)
    assert set(live.loaded.definitions.experts) == {"a", "b"}
    gone, repaired = logged(caplog)
    assert "is not found" in gone
    assert "in order again" in repaired
