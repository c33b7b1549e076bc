"""`listDirectory`, `createDirectory` and `deleteDirectory`."""

import errno
import os
import shutil
import stat

from perstack.definition.record import Record
from perstack.skills.base.failure import ToolFailure, in_words
from perstack.skills.base.files_read import timestamp
from perstack.skills.base.tool import (
    Facts,
    PathArgument,
    PathText,
    changing,
    define,
    path_property,
    path_schema,
    reading,
)
from perstack.skills.workspace import Entry, Workspace, is_closed

MAX_ITEMS = 1000


class DeleteDirectory(Record):
    """Arguments of `deleteDirectory`."""

    path: PathText
    recursive: bool = False


def list_directory(workspace: Workspace, args: PathArgument) -> Facts:
    """One level, in alphabetical order, without perstack's own folder."""
    with in_words("Directory", args.path), workspace.directory(args.path) as here:
        listed = os.listdir(here.folder)  # noqa: PTH208 - pathlib cannot list an open handle
        names = sorted(listed, key=lambda name: (name.casefold(), name))
        visible = [name for name in names if not (here.path == "." and is_closed((name,)))]
        found = [_item(workspace, here, name) for name in visible[:MAX_ITEMS]]
    facts: Facts = {"path": here.path, "items": [item for item in found if item]}
    if len(visible) > MAX_ITEMS:
        facts["note"] = (
            f"Only the first {MAX_ITEMS} of {len(visible)} items are shown; "
            "use exec with ls or find."
        )
    return facts


def _item(workspace: Workspace, here: Entry, name: str) -> Facts | None:
    path = name if here.path == "." else f"{here.path}/{name}"
    try:
        found = os.stat(name, dir_fd=here.folder, follow_symlinks=False)
    except FileNotFoundError:
        # Deleted since the names were read.
        return None
    is_folder = stat.S_ISDIR(found.st_mode) or (
        stat.S_ISLNK(found.st_mode) and _leads_to_folder(workspace, path)
    )
    return {
        "name": name,
        "path": path,
        "type": "directory" if is_folder else "file",
        "size": found.st_size,
        "modified": timestamp(found.st_mtime),
    }


def _leads_to_folder(workspace: Workspace, path: str) -> bool:
    """Whether a link leads to a folder inside; about places outside nothing is said."""
    try:
        with workspace.directory(path):
            return True
    except (ToolFailure, OSError):
        return False


def create_directory(workspace: Workspace, args: PathArgument) -> Facts:
    """Make a directory and those on the way to it."""
    if not workspace.parts(args.path):
        raise _taken(args.path)
    with (
        in_words("Directory", args.path),
        workspace.entry(args.path, create_parents=True) as entry,
    ):
        try:
            os.mkdir(entry.name, dir_fd=entry.folder)
        except FileExistsError:
            raise _taken(args.path) from None
    return {"path": entry.path}


def _taken(path: str) -> ToolFailure:
    return ToolFailure("AlreadyExists", f"Directory {path} already exists")


def delete_directory(workspace: Workspace, args: DeleteDirectory) -> Facts:
    """Delete a directory; with its content only if that was said."""
    with in_words("Directory", args.path), workspace.entry(args.path) as entry:
        found = entry.stat()
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise ToolFailure(
                "NotADirectory",
                f"Path {args.path} is not a directory. Use delete file tool instead.",
            )
        if found is not None and args.recursive:
            shutil.rmtree(entry.name, dir_fd=entry.folder)
        else:
            _delete_empty(entry, args.path)
    return {"path": entry.path}


def _delete_empty(entry: Entry, path: str) -> None:
    try:
        os.rmdir(entry.name, dir_fd=entry.folder)
    except OSError as error:
        # Systems differ in which of the two they say.
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        raise ToolFailure(
            "NotEmpty",
            f"Directory {path} is not empty. Set recursive to true to delete it with its content.",
        ) from None


TOOLS = (
    reading(
        define(
            "listDirectory",
            "List a directory of the workspace, one level, in alphabetical order.",
            path_schema("The directory; . is the workspace itself"),
            effect="reads",
        ),
        PathArgument,
        list_directory,
    ),
    changing(
        define(
            "createDirectory",
            "Make a directory of the workspace and those that are missing on the way to it.",
            path_schema("The directory, which must not exist"),
        ),
        PathArgument,
        create_directory,
    ),
    changing(
        define(
            "deleteDirectory",
            "Delete a directory of the workspace.",
            {
                "properties": {
                    "path": path_property("The directory"),
                    "recursive": {
                        "type": "boolean",
                        "default": False,
                        "description": "Delete what is in it, too. Else it must be empty.",
                    },
                },
                "required": ["path"],
            },
        ),
        DeleteDirectory,
        delete_directory,
    ),
)
