"""One job as one file, and what becomes of it in another store."""

import json
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from perstack.core.events import StoredEvent
from perstack.core.messages import ImageInlinePart, TextPart, UserMessage
from perstack.errors import ConfigError, JobStateError, PerstackError, StoreError
from perstack.runtime.ports import Store
from perstack.store.event_codec import MAX_INLINE_CHARACTERS, decode_line, encode_line
from perstack.store.memory import MemoryStore
from perstack.store.transfer.import_job import import_events
from perstack.store.transfer.job_archive import pack, unpack
from tests.fakes import ManualClock
from tests.store.records import records
from tests.store.sample_job import RunStory, status_of, write

pytestmark = pytest.mark.anyio
STRANGE = "a\u2028b\x85c \udc00 $blob"


async def filled(store: Store) -> RunStory:
    """A store with a job whose events are long, strange and of two runs."""
    run = RunStory()
    child = run.delegate("child")
    picture = ImageInlinePart(encoded_data="AAAA" * MAX_INLINE_CHARACTERS, mime_type="image/png")
    start = run.start().model_copy(
        update={"input_messages": (UserMessage(contents=(TextPart(text=STRANGE), picture)),)}
    )
    lease = await write(store, start, *run.step(found="x" * 2 * MAX_INLINE_CHARACTERS))
    began = child.start(delegated_by=run.as_delegator())
    await store.append((began, child.generate(), child.complete()), lease)
    await store.append(run.step(), lease)
    await store.release(lease)
    return run


async def packed(store: Store, path: Path) -> Path:
    _, events = await store.events("job")
    path.write_bytes(pack((await store.load("job")).job, events))
    return path


async def imported(store: Store, path: Path) -> str:
    job = unpack(path)
    return await import_events(store, job.job_id, job.events)


@pytest.fixture
def elsewhere() -> MemoryStore:
    return MemoryStore(owner="elsewhere", clock=ManualClock(1_000_000, is_automatic=False))


async def test_a_job_comes_out_of_its_file_as_it_went_in(
    store: Store, elsewhere: MemoryStore, tmp_path: Path
) -> None:
    await filled(store)
    assert await imported(elsewhere, await packed(store, tmp_path / "job.perstack")) == "added"
    assert (await elsewhere.events("job"))[1] == (await store.events("job"))[1]
    assert await elsewhere.load("job") == await store.load("job")
    assert await status_of(elsewhere) == "interrupted"


async def test_the_same_job_gives_the_same_bytes(store: Store, tmp_path: Path) -> None:
    await filled(store)
    first = await packed(store, tmp_path / "one")
    assert first.read_bytes() == (await packed(store, tmp_path / "two")).read_bytes()


async def test_a_second_import_changes_nothing(
    store: Store, elsewhere: MemoryStore, tmp_path: Path
) -> None:
    await filled(store)
    path = await packed(store, tmp_path / "job.perstack")
    await imported(elsewhere, path)
    assert await imported(elsewhere, path) == "unchanged"
    assert (await elsewhere.events("job"))[1] == (await store.events("job"))[1]


async def test_what_happened_since_is_added(
    store: Store, elsewhere: MemoryStore, tmp_path: Path
) -> None:
    run = await filled(store)
    early = await packed(store, tmp_path / "early")
    await imported(elsewhere, early)
    await write(store, run.generate(), run.complete())
    assert await imported(elsewhere, await packed(store, tmp_path / "late")) == "extended"
    assert await status_of(elsewhere) == "completed"
    assert await imported(elsewhere, early) == "unchanged"
    assert await status_of(elsewhere) == "completed"


async def test_another_course_of_the_job_is_refused(
    store: Store, elsewhere: MemoryStore, tmp_path: Path
) -> None:
    run = await filled(store)
    await imported(elsewhere, await packed(store, tmp_path / "early"))
    theirs = RunStory()
    theirs.sequence, theirs.now, theirs.step_number = run.sequence, run.now, run.step_number
    await elsewhere.release(await write(elsewhere, theirs.cancel()))
    await write(store, run.generate(), run.complete())
    with pytest.raises(JobStateError, match=r"another job job here.*another workspace"):
        await imported(elsewhere, await packed(store, tmp_path / "late"))
    assert await status_of(elsewhere) == "stoppedByCancellation"
    await elsewhere.release(await elsewhere.acquire("job"))


async def test_a_job_that_somebody_drives_takes_in_nothing(
    store: Store, elsewhere: MemoryStore, tmp_path: Path
) -> None:
    run = await filled(store)
    await imported(elsewhere, await packed(store, tmp_path / "early"))
    await elsewhere.acquire("job")
    await write(store, run.generate())
    with pytest.raises(JobStateError, match="already being driven"):
        await imported(elsewhere, await packed(store, tmp_path / "late"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(event=records(StoredEvent.__subclasses__()[0]) | records(StoredEvent.__subclasses__()[4]))
def test_any_event_survives_the_way_through_a_line(event: StoredEvent) -> None:
    blobs: dict[str, bytes] = {}
    line = encode_line(event, blobs)  # pyright: ignore[reportArgumentType] - each subclass is one
    assert "\n" not in line
    assert decode_line(line.encode().decode(), blobs.__getitem__) == event


async def test_wherever_a_file_is_cut_off_it_is_refused(store: Store, tmp_path: Path) -> None:
    await filled(store)
    whole = (await packed(store, tmp_path / "whole")).read_bytes()
    cut = tmp_path / "cut"
    for length in range(0, len(whole), 97):
        cut.write_bytes(whole[:length])
        with pytest.raises(PerstackError, match=r"cut is (damaged|not an exported job)"):
            unpack(cut)


async def test_wherever_a_bit_is_flipped_it_is_noticed_or_means_nothing(
    store: Store, tmp_path: Path
) -> None:
    await filled(store)
    path = await packed(store, tmp_path / "whole")
    whole, meant = path.read_bytes(), unpack(path)
    flipped = tmp_path / "flipped"
    for place in range(0, len(whole), 13):
        flipped.write_bytes(
            whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :]
        )
        with suppress(PerstackError):
            assert unpack(flipped) == meant


def rewritten(path: Path, **changed: bytes | None) -> Path:
    """The archive with other members; `None` leaves one out, `blob` means every blob."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    target = path.with_name("rewritten")
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            kind = "blob" if name.startswith("blobs/") else name.partition(".")[0]
            new = changed.get(kind, content)
            if new is not None:
                archive.writestr(name, new)
    return target


async def test_content_that_was_exchanged_is_noticed(store: Store, tmp_path: Path) -> None:
    await filled(store)
    path = await packed(store, tmp_path / "whole")
    for changed, reason in (
        ({"events": b"{}\n"}, "its events were changed"),
        ({"events": None}, "a part of it is missing"),
        ({"blob": b"other"}, "was changed"),
        ({"blob": None}, "a part of it is missing"),
        ({"manifest": b'{"format": "perstack-job", "version": 1}'}, "a part of it is missing"),
    ):
        with pytest.raises(StoreError, match=f"damaged: .*{reason}"):
            unpack(rewritten(path, **changed))


async def test_events_that_make_no_job_are_refused(store: Store, tmp_path: Path) -> None:
    run = RunStory()
    await store.release(await write(store, run.start(), run.complete()))
    with pytest.raises(StoreError, match="its events do not follow from each other"):
        unpack(await packed(store, tmp_path / "odd"))


async def test_a_file_of_a_newer_version_is_refused(store: Store, tmp_path: Path) -> None:
    await filled(store)
    path = await packed(store, tmp_path / "whole")
    manifest = json.dumps({"format": "perstack-job", "version": 2}).encode()
    with pytest.raises(ConfigError, match=r"has version 2 .* Update perstack"):
        unpack(rewritten(path, manifest=manifest))


async def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("no archive", encoding="utf-8")
    with pytest.raises(ConfigError, match="not an exported job"):
        unpack(other)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    with pytest.raises(ConfigError, match="not an exported job"):
        unpack(other)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        unpack(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        unpack(tmp_path)
