"""`readTextFile` and `getFileInfo`."""

import json
import mimetypes
import os
import stat
from bisect import bisect_right
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Self

from pydantic import Field, model_validator

from perstack.models import FrozenModel
from perstack.skills.builtin.failures import ToolFailure
from perstack.skills.builtin.tool import (
    JsonObject,
    PathArguments,
    PathText,
    parameter,
    path_parameter,
    workspace_tool,
)
from perstack.skills.builtin.workspace import Workspace, WorkspaceEntry

KIBIBYTE = 1024
MAX_FILE_BYTES = 16 * KIBIBYTE * KIBIBYTE
MAX_CONTENT_CHARACTERS = 32_000
"""As JSON, so that the run need not shorten the result, of which a part would be missing then."""

FILE_INFO_NOUN = "File or directory"


class ReadTextFileArguments(FrozenModel):
    path: PathText
    from_line: int | None = Field(default=None, ge=0, alias="from")
    to_line: int | None = Field(default=None, ge=0, alias="to")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.to_line is not None and self.to_line < (self.from_line or 0):
            raise ValueError("`to` must not be smaller than `from`")
        return self


def read_text_file(workspace: Workspace, args: ReadTextFileArguments) -> JsonObject:
    """The requested lines, as many as fit."""
    with workspace.entry(args.path, follow=True) as entry:
        text = read_text(entry).removeprefix("\ufeff")
    lines = text.split("\n")
    # A newline belongs to its line, so that consecutive ranges joined are the file.
    lines = [f"{line}\n" for line in lines[:-1]] + lines[-1:] * bool(lines[-1])
    start = min(args.from_line or 0, len(lines))
    stop = len(lines) if args.to_line is None else min(args.to_line, len(lines))
    stop = max(start, stop)
    content, end = _fit_lines(lines, start, stop)
    facts: JsonObject = {
        "path": entry.path,
        "content": content,
        "from": start,
        "to": end,
        "totalLines": len(lines),
    }
    notes: list[str] = []
    if len(content) < sum(map(len, lines[start:end])):
        notes.append(
            f"Line {start} is {len(lines[start])} characters long and only its beginning is shown; "
            "use exec (for example with cut) for the rest."
        )
    if end < stop:
        notes.append(
            f"Only lines {start} to {end} (exclusive) fit in one answer; "
            f"call readTextFile again with from={end} for what follows."
        )
    if notes:
        facts["note"] = " ".join(notes)
    return facts


def read_text(entry: WorkspaceEntry) -> str:
    """The whole text of a file, exactly as it is.

    Raises:
        ToolFailure: The file is too large or not text.
        OSError: It cannot be read.
    """
    with entry.open(os.O_RDONLY) as handle:
        size = os.fstat(handle).st_size
        if size > MAX_FILE_BYTES:
            raise ToolFailure(
                "TooLarge",
                f"File {entry.path} has {format_size(size)}, more than the "
                f"{format_size(MAX_FILE_BYTES)} that the text tools take. "
                "Use exec with head, tail, sed -n or grep to see parts of it.",
            )
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _not_text_failure(entry.path) from None
    if "\0" in text:
        raise _not_text_failure(entry.path)
    return text


def _not_text_failure(path: str) -> ToolFailure:
    return ToolFailure(
        "Unsupported",
        f"File {path} is binary, or text in another encoding than UTF-8. "
        "Use readImageFile or readPdfFile for these kinds, or exec with file, xxd or iconv.",
    )


def _fit_lines(lines: list[str], start: int, stop: int) -> tuple[str, int]:
    """The lines from `start` that fit in one answer, and where they end. One too long is cut."""
    remaining = MAX_CONTENT_CHARACTERS
    end = start
    while end < stop and (length := json_length(lines[end])) <= remaining:
        remaining -= length
        end += 1
    if end == start and start < stop:
        return _cut(lines[start]), start + 1
    return "".join(lines[start:end]), end


def _cut(line: str) -> str:
    """As much of a line as fits."""
    counts = range(MAX_CONTENT_CHARACTERS + 1)
    fitting = bisect_right(
        counts, MAX_CONTENT_CHARACTERS, key=lambda count: json_length(line[:count])
    )
    return line[: fitting - 1]


def json_length(text: str) -> int:
    """How many characters a text takes within a string of JSON."""
    return len(json.dumps(text, ensure_ascii=False)) - 2


def get_file_info(workspace: Workspace, args: PathArguments) -> JsonObject:
    with workspace.entry(args.path, FILE_INFO_NOUN, follow=True) as entry:
        file_stat = entry.stat()
        if file_stat is None:
            raise ToolFailure("NotFound", f"{FILE_INFO_NOUN} {args.path} does not exist.")
        permissions = {
            word: os.access(entry.name, mode, dir_fd=entry.dir_fd)
            for word, mode in (
                ("readable", os.R_OK),
                ("writable", os.W_OK),
                ("executable", os.X_OK),
            )
        }
    absolute_path = PurePosixPath(workspace.root / entry.path)
    is_folder = stat.S_ISDIR(file_stat.st_mode)
    return {
        "exists": True,
        "path": entry.path,
        "absolutePath": str(absolute_path),
        "name": absolute_path.name,
        "directory": str(absolute_path.parent),
        "extension": None if is_folder else absolute_path.suffix or None,
        "type": "directory" if is_folder else "file",
        "mimeType": None if is_folder else guess_mime_type(absolute_path.name),
        "size": file_stat.st_size,
        "sizeFormatted": format_size(file_stat.st_size),
        "created": iso_timestamp(file_stat.st_ctime),
        "modified": iso_timestamp(file_stat.st_mtime),
        "accessed": iso_timestamp(file_stat.st_atime),
        "permissions": permissions,
    }


def guess_mime_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def iso_timestamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_size(size: int) -> str:
    """A number of bytes as `1.21 KB`."""
    if size < KIBIBYTE:
        return f"{size} B"
    value = size / KIBIBYTE
    for unit in ("KB", "MB", "GB"):
        if value < KIBIBYTE:
            return f"{value:.2f} {unit}"
        value /= KIBIBYTE
    return f"{value:.2f} TB"


TOOLS = (
    workspace_tool(
        read_text_file,
        ReadTextFileArguments,
        "readTextFile",
        "Read a UTF-8 text file of the workspace, whole or a range of its lines. Lines are "
        f"counted from 0. At most {MAX_CONTENT_CHARACTERS:,} characters are returned; `to` and "
        "`totalLines` of the result say where it stopped, so go on with `from` set to `to`.",
        {
            "path": path_parameter("The file"),
            "from": parameter(
                "integer",
                "First line, counted from 0. The beginning if left out.",
                minimum=0,
            ),
            "to": parameter(
                "integer", "Line before which to stop. The end if left out.", minimum=0
            ),
        },
        effect="reads",
    ),
    workspace_tool(
        get_file_info,
        PathArguments,
        "getFileInfo",
        "Get type, size, times and permissions of a file or directory of the workspace.",
        {"path": path_parameter("The file or directory")},
        effect="reads",
    ),
)
