"""What a query, an argument file and the files of a request may be."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from perstack.definition.references import MAX_QUERY_CHARACTERS
from perstack.engine import open_engine
from perstack.errors import ConfigError
from perstack.runtime.start_plan import JobRequest
from perstack.settings import Settings
from tests.cli.harness import Outcome, Stage, says

TEXT = "Prüfe das: „ü“ 😀\n\tzwei"


class Piped(io.TextIOWrapper):
    """A stdin that something is written to."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")


def ask(here: Stage, content: bytes, *words: str) -> Outcome:
    here.plays(a=[says("{{query}}")])
    here.stdin = Piped(content)  # pyright: ignore[reportAttributeAccessIssue]
    return here.runs("a", *words, "--filter", "completeRun")


def query_of(here: Stage) -> str:
    return json.loads(here.logs("--json").stdout)["job"]["query"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be"]
)
@pytest.mark.parametrize("words", [(), ("-",)])
def test_text_is_taken_in_whole_in_every_encoding_that_says_its_name(
    here: Stage, encoding: str, words: tuple[str, ...]
) -> None:
    mark = "" if encoding in {"utf-8", "utf-8-sig", "utf-16", "utf-32"} else "\ufeff"
    out = ask(here, (mark + TEXT).encode(encoding), *words)
    assert (out.code, query_of(here)) == (0, TEXT)


@pytest.mark.parametrize(
    "text",
    [
        "    indented\n    too",
        "a\r\nb\rc",
        "\x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m",
        "a\x01\x7f\x85\u2028b",
        "\ufffd and \ue000",
        "x" * MAX_QUERY_CHARACTERS,
    ],
)
def test_text_is_taken_in_as_it_is(here: Stage, text: str) -> None:
    out = ask(here, f"{text}\n".encode())
    assert (out.code, query_of(here)) == (0, text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Query is required."),
        (b" \n\t\r\n", "Query is required."),
        (b"\xef\xbb\xbf\n", "Query is required."),
        ("Prüfe das".encode("latin-1"), "stdin is not UTF-8 text: byte 3, in line 1"),
        (b"one\ntwo \xe2\x82", "stdin is not UTF-8 text: byte 9, in line 2"),
        (b"\xed\xa0\x80", "stdin is not UTF-8 text: byte 1, in line 1"),
        (b"\xff\xfea", "stdin is not UTF-16 text"),
        ("wide".encode("utf-16-le"), "null character in line 1"),
        (b"PK\x03\x04\n\x00", "null character in line 2"),
        (b"x" * (MAX_QUERY_CHARACTERS + 1), "500,001 characters; the limit is 500,000"),
        (b"x" * 5_000_000, "stdin has more than 4 MiB"),
    ],
    ids=range(11),
)
def test_what_is_no_query_is_refused_before_there_is_a_job(
    here: Stage, content: bytes, said: str
) -> None:
    out = ask(here, content, "-")
    assert (out.code, out.stdout) == (2, "")
    assert said in out.stderr
    assert "No data found" in here.logs("--jobs").stdout


def test_an_empty_stdin_that_was_asked_for_continues_nothing(here: Stage) -> None:
    ask(here, b"q")
    here.stdin = Piped(b"")  # pyright: ignore[reportAttributeAccessIssue]
    out = here.runs("a", "-", "--continue")
    assert (out.code, "Query is required." in out.stderr) == (2, True)


@pytest.mark.parametrize("redirection", ["<&-", "< /dev/null"])
def test_a_stdin_that_gives_nothing_is_said(here: Stage, redirection: str) -> None:
    here.plays(a=[says("done")])
    command = f'exec "$0" -m perstack run a - {redirection}'
    out = process_of(command, here.folder)
    assert (out.code, out.stdout, out.stderr.count("\n")) == (2, "", 2)


def process_of(command: str, folder: Path) -> Outcome:
    ended = subprocess.run(
        ["sh", "-c", command, sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("query", ["a\udce9b", "\ud83d"])
def test_an_argument_that_is_no_text_is_refused(here: Stage, query: str) -> None:
    here.plays(a=[says("done")])
    out = here.runs("a", query)
    assert (out.code, out.stdout) == (2, "")
    assert "The query is no text: character" in out.stderr


def test_an_argument_file_is_read_like_stdin(here: Stage) -> None:
    (here.folder / "input.json").write_text('{"x": "ü"}', encoding="latin-1")
    out = here.runs("a", "--input", f"@{here.folder / 'input.json'}")
    assert out.code == 2
    assert "input.json is not UTF-8 text: byte 8" in out.stderr


@pytest.fixture
def files(here: Stage) -> Path:
    """A workspace with files of each kind."""
    folder = here.folder
    here.plays(a=[says("done")])
    (folder / "notes.txt").write_text("notes", encoding="utf-8")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (folder / "docs").mkdir()
    (folder / "docs" / "link").symlink_to("../notes.txt")
    (folder / "out").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe")
    (folder / "perstack").mkdir()
    (folder / "perstack" / "store.txt").write_text("", encoding="utf-8")
    return folder


async def started_with(folder: Path, *paths: str) -> str:
    settings = Settings(config=folder / "perstack.toml", workspace=folder, is_in_memory=True)
    async with open_engine(settings) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q", files=paths))
        return (await job.wait()).job.status
    raise AssertionError


@pytest.mark.parametrize("path", ["notes.txt", "./notes.txt", "photo.png", "docs/link", "FOLDER"])
def test_files_of_the_workspace_may_be_named(files: Path, path: str) -> None:
    named = path.replace("FOLDER", str(files / "notes.txt"))
    assert anyio.run(started_with, files, named) == "completed"


@pytest.mark.parametrize(
    "path",
    [
        *("missing.txt", "notes.txt/x", "docs", ".", "", "out", "pipe", "../x", "/etc/hostname"),
        *("perstack/store.txt", "no\0tes.txt", "not\udce9s.txt", "x" * 5000),
    ],
)
def test_what_is_no_file_of_the_workspace_is_refused_by_name(files: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"^files: "):
        anyio.run(started_with, files, "notes.txt", path)
