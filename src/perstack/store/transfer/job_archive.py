"""One job as one file: everything that its store knows of it, to be read on another machine.

A zip archive of `manifest.json`, `events.jsonl` with an event a line in the order of writing, and
`blobs/<sha256>` with the long strings that the events refer to. Whatever was changed or cut off on
the way is noticed: the manifest has the hash of the events, which have the hashes of the blobs.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perstack.core.checkpoint import Job
from perstack.core.events import RunEvent
from perstack.core.history import newest_checkpoints
from perstack.core.machine import IllegalTransitionError
from perstack.errors import ConfigError, StoreError
from perstack.store.event_codec import decode_line, encode_line
from perstack.store.projection import group_by_run

FORMAT = "perstack-job"
VERSION = 1
SUFFIX = ".perstack"

MANIFEST = "manifest.json"
EVENTS = "events.jsonl"
BLOBS = "blobs/"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_UNPACKED_BYTES = 4 * 1024**3
# The same job gives the same bytes, whenever it is packed.
ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)

PARSE_ERRORS = (EOFError, KeyError, RuntimeError, TypeError, ValueError, zlib.error)
"""What a reader of zip and JSON makes of damage, besides saying so."""

EXPORT_AGAIN_HINT = "Export the job again where it ran, and copy the file as it is."


@dataclass(frozen=True, slots=True)
class ArchivedJob:
    job_id: str
    events: tuple[RunEvent, ...]


def pack(job: Job, events: Sequence[RunEvent]) -> bytes:
    blobs: dict[str, bytes] = {}
    lines = "".join(f"{encode_line(event, blobs)}\n" for event in events).encode()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "job": job.model_dump(mode="json", by_alias=True, exclude_none=True),
        "events": {"count": len(events), "sha256": _sha256(lines)},
        "blobs": {digest: len(content) for digest, content in sorted(blobs.items())},
    }
    manifest_json = json.dumps(manifest, ensure_ascii=False, indent=1).encode()
    blob_files = [(f"{BLOBS}{digest}", content) for digest, content in sorted(blobs.items())]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [(MANIFEST, manifest_json), (EVENTS, lines), *blob_files]:
            entry = zipfile.ZipInfo(name, ZIP_TIMESTAMP)
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def unpack(path: Path) -> ArchivedJob:
    """What is in an archive, every hash of it checked.

    Raises:
        ConfigError: It cannot be read, is no archive of a job, or is of a newer version.
        StoreError: It is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", hint="Name the file of an exported job."
        ) from error
    except zipfile.BadZipFile as error:
        # What was cut off has lost the directory at its end, and is no zip archive any more.
        is_zip = _has_zip_signature(path)
        raise (
            _damaged_archive(path, "it is not complete") if is_zip else _not_an_archive(path)
        ) from error
    except IllegalTransitionError as error:
        raise _damaged_archive(path, "its events do not follow from each other") from error
    except PARSE_ERRORS as error:
        raise _damaged_archive(path, "a part of it is missing or cannot be read") from error


def _read_archive(archive: zipfile.ZipFile, path: Path) -> ArchivedJob:
    if MANIFEST not in archive.namelist():
        raise _not_an_archive(path)
    if archive.getinfo(MANIFEST).file_size > MAX_MANIFEST_BYTES:
        raise _not_an_archive(path)
    manifest: Mapping[str, Any] = json.loads(archive.read(MANIFEST))
    if manifest.get("format") != FORMAT:
        raise _not_an_archive(path)
    if manifest["version"] != VERSION:
        raise ConfigError(
            f"{path} has version {manifest['version']} of its format; "
            f"this perstack knows version {VERSION}.",
            hint="Update perstack.",
        )
    if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED_BYTES:
        raise _damaged_archive(path, "it would unpack to more than a job can have")
    lines = archive.read(EVENTS)
    if _sha256(lines) != manifest["events"]["sha256"]:
        raise _damaged_archive(path, "its events were changed")
    job_id = str(manifest["job"]["id"])
    events = _parse_events(lines.decode(), _blob_reader(archive, path))
    if len(events) != manifest["events"]["count"] or not events:
        raise _damaged_archive(path, "it has more or fewer events than it says")
    if {event.stamp.job_id for event in events} != {job_id}:
        raise _damaged_archive(path, "it has events of another job")
    newest_checkpoints(group_by_run(events))
    return ArchivedJob(job_id, events)


def _parse_events(lines: str, fetch: Callable[[str], bytes]) -> tuple[RunEvent, ...]:
    # Other line separators of Unicode are content in JSON.
    return tuple(decode_line(line, fetch) for line in lines.split("\n") if line)


def _blob_reader(archive: zipfile.ZipFile, path: Path) -> Callable[[str], bytes]:
    def fetch(digest: str) -> bytes:
        content = archive.read(f"{BLOBS}{digest}")
        if _sha256(content) != digest:
            raise _damaged_archive(path, f"blob {digest} was changed")
        return content

    return fetch


def _has_zip_signature(path: Path) -> bool:
    with path.open("rb") as file:
        signature = file.read(len(b"PK\x03\x04"))
    return signature == b"PK\x03\x04"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _not_an_archive(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is not an exported job.", hint="perstack export JOB makes such a file."
    )


def _damaged_archive(path: Path, reason: str) -> StoreError:
    return StoreError(f"{path} is damaged: {reason}.", hint=EXPORT_AGAIN_HINT)
