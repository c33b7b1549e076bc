"""`writeTextFile`, `appendTextFile` and `editTextFile`."""

import os
import re

from pydantic import Field

from perstack.definition.record import Record
from perstack.skills.base.failure import ToolFailure, in_words
from perstack.skills.base.files_read import read_text
from perstack.skills.base.replace import replace_file
from perstack.skills.base.tool import Facts, FileText, PathText, changing, define, path_property
from perstack.skills.workspace import Workspace


class TextForFile(Record):
    """Arguments of `writeTextFile` and `appendTextFile`."""

    path: PathText
    text: FileText


class EditTextFile(Record):
    """Arguments of `editTextFile`."""

    path: PathText
    old_text: FileText = Field(min_length=1)
    new_text: FileText


def write_text_file(workspace: Workspace, args: TextForFile) -> Facts:
    """Write a file, making the folders on the way."""
    with (
        in_words("File", args.path),
        workspace.entry(args.path, create_parents=True) as entry,
    ):
        replace_file(entry, args.text.encode())
    return {"path": entry.path, "text": args.text}


def append_text_file(workspace: Workspace, args: TextForFile) -> Facts:
    """Add to the end of a file; exactly the text, no newline in between."""
    with (
        in_words("File", args.path),
        workspace.entry(args.path) as entry,
        entry.open(os.O_WRONLY | os.O_APPEND) as handle,
        os.fdopen(handle, "ab", closefd=False) as file,
    ):
        file.write(args.text.encode())
    return {"path": entry.path, "text": args.text}


def edit_text_file(workspace: Workspace, args: EditTextFile) -> Facts:
    """Replace the first occurrence of a text, and nothing else.

    What a line ends with does not count when the text is sought, because a model sees and writes
    plain newlines; the lines that are put in end like those of the file.
    """
    with in_words("File", args.path), workspace.entry(args.path) as entry:
        text = read_text(entry)
        sought = r"\r?\n".join(
            re.escape(line) for line in _plain_newlines(args.old_text).split("\n")
        )
        found = re.search(sought, text)
        if found is None:
            raise ToolFailure(
                "NoMatch",
                f"Could not find exact match for oldText in file {args.path}. Read the file again; "
                "oldText must agree with it in every character, indentation included.",
            )
        newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
        new = _plain_newlines(args.new_text).replace("\n", newline)
        replace_file(entry, f"{text[: found.start()]}{new}{text[found.end() :]}".encode())
    return {"path": entry.path, "newText": args.new_text, "oldText": args.old_text}


def _plain_newlines(text: str) -> str:
    return text.replace("\r\n", "\n")


TOOLS = (
    changing(
        define(
            "writeTextFile",
            "Write a UTF-8 text file of the workspace. Replaces what is there; folders that are "
            "missing on the way are made. Use editTextFile to change a part of a file.",
            {
                "properties": {
                    "path": path_property("The file"),
                    "text": {"type": "string", "description": "The whole content."},
                },
                "required": ["path", "text"],
            },
            effect="repeatable",
        ),
        TextForFile,
        write_text_file,
    ),
    changing(
        define(
            "appendTextFile",
            "Add text to the end of an existing text file of the workspace. Exactly the text is "
            "added: begin it with a newline if it has to stand on a line of its own.",
            {
                "properties": {
                    "path": path_property("The file, which must exist"),
                    "text": {"type": "string", "description": "What to add."},
                },
                "required": ["path", "text"],
            },
        ),
        TextForFile,
        append_text_file,
    ),
    changing(
        define(
            "editTextFile",
            "Replace the first exact occurrence of a text in a text file of the workspace. Give "
            "enough of the surrounding lines in oldText to hit the right place.",
            {
                "properties": {
                    "path": path_property("The file, which must exist"),
                    "oldText": {
                        "type": "string",
                        "minLength": 1,
                        "description": "What to replace, exactly as it stands in the file.",
                    },
                    "newText": {
                        "type": "string",
                        "description": "What to put in its place; empty to delete.",
                    },
                },
                "required": ["path", "oldText", "newText"],
            },
        ),
        EditTextFile,
        edit_text_file,
    ),
)
