"""`writeTextFile`, `appendTextFile` and `editTextFile`."""

import os
import re
import secrets
from contextlib import suppress

from pydantic import Field

from perstack.models import FrozenModel
from perstack.skills.builtin.failures import ToolFailure
from perstack.skills.builtin.read import read_text
from perstack.skills.builtin.tool import (
    FileText,
    JsonObject,
    PathText,
    parameter,
    path_parameter,
    workspace_tool,
)
from perstack.skills.builtin.workspace import Workspace, WorkspaceEntry

NEW_FILE_MODE = 0o644


def replace_file(entry: WorkspaceEntry, data: bytes) -> None:
    """Replace the content of a file, or create it. Its mode is kept.

    Raises:
        ToolFailure: It exists and is not a writable regular file.
        OSError: The folder cannot be written, or the disk is full; the file is unchanged.
    """
    mode = _writable_file_mode(entry)
    # In the same folder, because a rename is atomic only within one file system.
    temporary = f".{entry.name[:60]}.{secrets.token_hex(6)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, NEW_FILE_MODE, dir_fd=entry.dir_fd)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(handle, mode)
        os.rename(temporary, entry.name, src_dir_fd=entry.dir_fd, dst_dir_fd=entry.dir_fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=entry.dir_fd)
        raise


def _writable_file_mode(entry: WorkspaceEntry) -> int | None:
    # A rename alone would replace a file that is not writable.
    try:
        with entry.open(os.O_WRONLY) as handle:
            return os.fstat(handle).st_mode & 0o7777
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ToolFailure("AccessDenied", f"File {entry.path} is not writable") from None


class WriteTextFileArguments(FrozenModel):
    path: PathText
    text: FileText


class EditTextFileArguments(FrozenModel):
    path: PathText
    old_text: FileText = Field(min_length=1)
    new_text: FileText


def write_text_file(workspace: Workspace, args: WriteTextFileArguments) -> JsonObject:
    with workspace.entry(args.path, create_parents=True) as entry:
        replace_file(entry, args.text.encode())
    return {"path": entry.path, "text": args.text}


def append_text_file(workspace: Workspace, args: WriteTextFileArguments) -> JsonObject:
    with (
        workspace.entry(args.path) as entry,
        entry.open(os.O_WRONLY | os.O_APPEND) as handle,
        os.fdopen(handle, "ab", closefd=False) as file,
    ):
        file.write(args.text.encode())
    return {"path": entry.path, "text": args.text}


def edit_text_file(workspace: Workspace, args: EditTextFileArguments) -> JsonObject:
    """Replace the first occurrence of a text.

    Line endings do not count in the search, because a model sees and writes plain newlines; the new
    lines end like those of the file.
    """
    with workspace.entry(args.path) as entry:
        text = read_text(entry)
        pattern = r"\r?\n".join(
            re.escape(line) for line in _normalize_newlines(args.old_text).split("\n")
        )
        match = re.search(pattern, text)
        if match is None:
            raise ToolFailure(
                "NoMatch",
                f"Could not find exact match for oldText in file {args.path}. Read the file again; "
                "oldText must agree with it in every character, indentation included.",
            )
        newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
        replacement = _normalize_newlines(args.new_text).replace("\n", newline)
        replace_file(entry, f"{text[: match.start()]}{replacement}{text[match.end() :]}".encode())
    return {"path": entry.path, "newText": args.new_text, "oldText": args.old_text}


def _normalize_newlines(text: str) -> str:
    return text.replace("\r\n", "\n")


TOOLS = (
    workspace_tool(
        write_text_file,
        WriteTextFileArguments,
        "writeTextFile",
        "Write a UTF-8 text file of the workspace. Replaces what is there; folders that are "
        "missing on the way are made. Use editTextFile to change a part of a file.",
        {
            "path": path_parameter("The file"),
            "text": parameter("string", "The whole content."),
        },
        effect="repeatable",
    ),
    workspace_tool(
        append_text_file,
        WriteTextFileArguments,
        "appendTextFile",
        "Add text to the end of an existing text file of the workspace. Exactly the text is "
        "added: begin it with a newline if it has to stand on a line of its own.",
        {
            "path": path_parameter("The file, which must exist"),
            "text": parameter("string", "What to add."),
        },
    ),
    workspace_tool(
        edit_text_file,
        EditTextFileArguments,
        "editTextFile",
        "Replace the first exact occurrence of a text in a text file of the workspace. Give "
        "enough of the surrounding lines in oldText to hit the right place.",
        {
            "path": path_parameter("The file, which must exist"),
            "oldText": parameter(
                "string", "What to replace, exactly as it stands in the file.", minLength=1
            ),
            "newText": parameter("string", "What to put in its place; empty to delete."),
        },
    ),
)
