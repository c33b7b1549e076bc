"""`globFiles` and `grepFiles`: find files of the workspace by their names and by what they say."""

import os
import stat
import time
from collections.abc import Iterable, Iterator

from anyio.from_thread import check_cancelled

from perstack.models import FrozenModel
from perstack.skills.builtin.failures import ToolFailure
from perstack.skills.builtin.glob import Glob
from perstack.skills.builtin.read import FILE_INFO_NOUN, MAX_FILE_BYTES, format_size, json_length
from perstack.skills.builtin.tool import (
    PATTERN_RULES,
    JsonObject,
    PathText,
    parameter,
    path_parameter,
    workspace_tool,
)
from perstack.skills.builtin.workspace import Workspace, WorkspaceEntry, is_reserved
from perstack.text import replace_surrogates
from perstack.text_search import SearchPattern, SearchTimeoutError

MAX_RESULT_CHARACTERS = 30_000
PUNCTUATION_CHARACTERS = 50
"""About what the JSON of a match has beside its texts."""

MAX_PATHS = 1_000
MAX_MATCHES = 200
MAX_DEPTH = 50
MAX_ENTRIES = 100_000
"""Files and folders that are looked at."""

MAX_SECONDS = 10.0
MAX_LISTED_PATHS = 3
BINARY_CHECK_BYTES = 8_192
GIT_FOLDER = ".git"
NARROWER = "Narrow the pattern or the path."


class GlobFilesArguments(FrozenModel):
    pattern: PathText
    path: PathText = "."


class GrepFilesArguments(FrozenModel):
    pattern: PathText
    path: PathText = "."
    glob: PathText | None = None
    ignore_case: bool = False


class FileWalk:
    """The files below a folder in a stable order, links not followed, until a limit is reached.

    Attributes:
        deadline: When the search ends, by `time.monotonic`.
        notes: What was left out, and why.
    """

    def __init__(self) -> None:
        self.deadline = time.monotonic() + MAX_SECONDS
        self.notes: list[str] = []
        self._entry_count = 0

    def files(self, folder: WorkspaceEntry) -> Iterator[tuple[WorkspaceEntry, str]]:
        """Each file with its path relative to `folder`."""
        prefix = "" if folder.path == "." else f"{folder.path}/"
        unreadable: list[OSError] = []
        for root, folders, all_names, handle in os.fwalk(
            ".", onerror=unreadable.append, dir_fd=folder.dir_fd
        ):
            if self._is_over():
                return
            parent = root.removeprefix(".").removeprefix("/")
            is_top = not prefix and not parent
            names = [name for name in all_names if not (is_top and is_reserved((name,)))]
            folders[:] = sorted(
                (
                    name
                    for name in folders
                    if name != GIT_FOLDER and not (is_top and is_reserved((name,)))
                ),
                key=_alphabetically,
            )
            if parent.count("/") + 1 >= MAX_DEPTH and folders:
                self._note(f"Folders more than {MAX_DEPTH} levels deep were left out.")
                folders.clear()
            for name in sorted(names, key=_alphabetically):
                if self._is_over():
                    return
                path = f"{parent}/{name}" if parent else name
                yield WorkspaceEntry(handle, name, f"{prefix}{path}"), path
        if unreadable:
            self._note(f"{len(unreadable)} folders cannot be read.")

    def time_is_up(self) -> None:
        """Note that the search did not come to its end."""
        self._note(f"The search was ended after {MAX_SECONDS:.0f} seconds. {NARROWER}")

    def _is_over(self) -> bool:
        check_cancelled()
        self._entry_count += 1
        if self._entry_count > MAX_ENTRIES:
            self._note(f"Only the first {MAX_ENTRIES:,} files were looked at. {NARROWER}")
            return True
        if time.monotonic() > self.deadline:
            self.time_is_up()
            return True
        return False

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _alphabetically(name: str) -> tuple[str, str]:
    return name.casefold(), name


def glob_files(workspace: Workspace, args: GlobFilesArguments) -> JsonObject:
    glob = _compile_glob(args.pattern)
    walk = FileWalk()
    paths: list[str] = []
    room = MAX_RESULT_CHARACTERS
    with workspace.directory(args.path) as folder:
        for file, relative_path in walk.files(folder):
            if not glob.matches(replace_surrogates(relative_path)):
                continue
            room -= json_length(file.path) + len('"", ')
            if room < 0 or len(paths) == MAX_PATHS:
                walk.notes.append(f"Only the first {len(paths)} files are shown. {NARROWER}")
                break
            paths.append(file.path)
    return _with_note({"files": paths}, walk.notes)


def grep_files(workspace: Workspace, args: GrepFilesArguments) -> JsonObject:
    pattern = _compile(args.pattern, ignores_case=args.ignore_case)
    glob = None if args.glob is None else _compile_glob(args.glob)
    walk, grep = FileWalk(), _Grep(pattern)
    with workspace.entry(args.path, FILE_INFO_NOUN, follow=True) as entry:
        file_stat = entry.stat()
        if file_stat is None:
            raise ToolFailure("NotFound", f"{FILE_INFO_NOUN} {args.path} does not exist.")
        if not stat.S_ISDIR(file_stat.st_mode):
            grep.search(((entry, entry.path),), None, walk)
        else:
            with workspace.directory(args.path) as folder:
                grep.search(walk.files(folder), glob, walk)
    return _with_note({"matches": grep.matches}, [*walk.notes, *grep.notes()])


class _Grep:
    """What a search in files has found so far."""

    def __init__(self, pattern: SearchPattern) -> None:
        self.matches: list[JsonObject] = []
        self._pattern = pattern
        self._room = MAX_RESULT_CHARACTERS
        self._is_full = False
        self._too_large: list[str] = []
        self._unreadable: list[str] = []

    def search(
        self, files: Iterable[tuple[WorkspaceEntry, str]], glob: Glob | None, walk: FileWalk
    ) -> None:
        try:
            for file, relative_path in files:
                if glob is None or glob.matches(replace_surrogates(relative_path)):
                    self._search_file(file, walk.deadline)
                if self._is_full:
                    return
        except SearchTimeoutError:
            walk.time_is_up()

    def notes(self) -> Iterator[str]:
        if self._is_full:
            yield f"Only the first {len(self.matches)} matches are shown. {NARROWER}"
        if self._too_large:
            yield (
                f"Not searched, because larger than {format_size(MAX_FILE_BYTES)}: "
                f"{_listing(self._too_large)}. Use exec with grep."
            )
        if self._unreadable:
            yield f"Not readable: {_listing(self._unreadable)}."

    def _search_file(self, file: WorkspaceEntry, deadline: float) -> None:
        text = self._read(file)
        if text is None:
            return
        for match in self._pattern.search(text, deadline=deadline):
            self._room -= json_length(file.path + match.excerpt) + PUNCTUATION_CHARACTERS
            if self._room < 0 or len(self.matches) == MAX_MATCHES:
                self._is_full = True
                return
            self.matches.append({"path": file.path, "line": match.line, "text": match.excerpt})

    def _read(self, file: WorkspaceEntry) -> str | None:
        """The text of a file; `None` if it is a link, too large, binary or not readable."""
        try:
            with file.open(os.O_RDONLY) as handle:
                if os.fstat(handle).st_size > MAX_FILE_BYTES:
                    self._too_large.append(file.path)
                    return None
                with os.fdopen(handle, "rb", closefd=False) as opened:
                    data = opened.read(MAX_FILE_BYTES)
        except ToolFailure:
            return None
        except OSError:
            self._unreadable.append(file.path)
            return None
        if b"\0" in data[:BINARY_CHECK_BYTES]:
            return None
        return data.decode("utf-8", "replace").replace("\r\n", "\n")


def _listing(paths: list[str]) -> str:
    shown = ", ".join(paths[:MAX_LISTED_PATHS])
    rest = len(paths) - MAX_LISTED_PATHS
    return f"{shown} and {rest} more" if rest > 0 else shown


def _compile(pattern: str, *, ignores_case: bool) -> SearchPattern:
    try:
        return SearchPattern(pattern, ignores_case=ignores_case)
    except ValueError as error:
        raise ToolFailure("InvalidArguments", f"`pattern` {error}.") from None


def _compile_glob(pattern: str) -> Glob:
    try:
        return Glob(pattern)
    except ValueError as error:
        raise ToolFailure("InvalidArguments", f"The glob {pattern} {error}.") from None


def _with_note(facts: JsonObject, notes: list[str]) -> JsonObject:
    return {**facts, "note": " ".join(notes)} if notes else facts


TOOLS = (
    workspace_tool(
        glob_files,
        GlobFilesArguments,
        "globFiles",
        "Find files of the workspace by a glob pattern. Links are not followed; .git is left out.",
        {
            "pattern": parameter(
                "string",
                "Such as **/*.py or src/*.{js,ts}; without a / it is for names at any depth.",
                minLength=1,
            ),
            "path": {**path_parameter("Directory to begin at"), "default": "."},
        },
        effect="reads",
    ),
    workspace_tool(
        grep_files,
        GrepFilesArguments,
        "grepFiles",
        "Search the text files of the workspace for lines that match a regular expression. Lines "
        "are counted from 0. Links are not followed; .git is left out.",
        {
            "pattern": parameter("string", f"The regular expression. {PATTERN_RULES}", minLength=1),
            "path": {**path_parameter("Directory or file to search"), "default": "."},
            "glob": parameter("string", "Only files that match this, such as *.py.", minLength=1),
            "ignoreCase": parameter("boolean", "Whether case does not matter.", default=False),
        },
        effect="reads",
    ),
)
