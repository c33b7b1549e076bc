"""`listDirectory`, `createDirectory` and `deleteDirectory`."""

import errno
import os
import shutil
import stat

from perstack.models import FrozenModel
from perstack.skills.builtin.failures import ToolFailure
from perstack.skills.builtin.read import iso_timestamp
from perstack.skills.builtin.tool import (
    JsonObject,
    PathArguments,
    PathText,
    parameter,
    path_parameter,
    workspace_tool,
)
from perstack.skills.builtin.workspace import Workspace, WorkspaceEntry, is_reserved

MAX_ITEMS = 1000


class DeleteDirectoryArguments(FrozenModel):
    path: PathText
    recursive: bool = False


def list_directory(workspace: Workspace, args: PathArguments) -> JsonObject:
    with workspace.directory(args.path) as directory:
        listed = os.listdir(directory.dir_fd)  # noqa: PTH208 - pathlib cannot list an open handle
        names = sorted(listed, key=lambda name: (name.casefold(), name))
        visible = [name for name in names if not (directory.path == "." and is_reserved((name,)))]
        items = [_describe_item(workspace, directory, name) for name in visible[:MAX_ITEMS]]
    facts: JsonObject = {"path": directory.path, "items": [item for item in items if item]}
    if len(visible) > MAX_ITEMS:
        facts["note"] = (
            f"Only the first {MAX_ITEMS} of {len(visible)} items are shown; "
            "use exec with ls or find."
        )
    return facts


def _describe_item(workspace: Workspace, directory: WorkspaceEntry, name: str) -> JsonObject | None:
    path = name if directory.path == "." else f"{directory.path}/{name}"
    try:
        file_stat = os.stat(name, dir_fd=directory.dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        # Deleted since the names were read.
        return None
    is_folder = stat.S_ISDIR(file_stat.st_mode) or (
        stat.S_ISLNK(file_stat.st_mode) and _links_to_directory(workspace, path)
    )
    return {
        "name": name,
        "path": path,
        "type": "directory" if is_folder else "file",
        "size": file_stat.st_size,
        "modified": iso_timestamp(file_stat.st_mtime),
    }


def _links_to_directory(workspace: Workspace, path: str) -> bool:
    """Whether a link leads to a folder inside the workspace."""
    try:
        with workspace.directory(path):
            return True
    except ToolFailure:
        return False


def create_directory(workspace: Workspace, args: PathArguments) -> JsonObject:
    if not workspace.parts(args.path):
        raise _directory_exists(args.path)
    with workspace.entry(args.path, "Directory", create_parents=True) as entry:
        try:
            os.mkdir(entry.name, dir_fd=entry.dir_fd)
        except FileExistsError:
            raise _directory_exists(args.path) from None
    return {"path": entry.path}


def _directory_exists(path: str) -> ToolFailure:
    return ToolFailure("AlreadyExists", f"Directory {path} already exists")


def delete_directory(workspace: Workspace, args: DeleteDirectoryArguments) -> JsonObject:
    with workspace.entry(args.path, "Directory") as entry:
        file_stat = entry.stat()
        if file_stat is not None and not stat.S_ISDIR(file_stat.st_mode):
            raise ToolFailure(
                "NotADirectory",
                f"Path {args.path} is not a directory. Use delete file tool instead.",
            )
        if file_stat is not None and args.recursive:
            shutil.rmtree(entry.name, dir_fd=entry.dir_fd)
        else:
            _delete_empty(entry, args.path)
    return {"path": entry.path}


def _delete_empty(entry: WorkspaceEntry, path: str) -> None:
    try:
        os.rmdir(entry.name, dir_fd=entry.dir_fd)
    except OSError as error:
        # Systems differ in which of the two they report.
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        raise ToolFailure(
            "NotEmpty",
            f"Directory {path} is not empty. Set recursive to true to delete it with its content.",
        ) from None


TOOLS = (
    workspace_tool(
        list_directory,
        PathArguments,
        "listDirectory",
        "List a directory of the workspace, one level, in alphabetical order.",
        {"path": path_parameter("The directory; . is the workspace itself")},
        effect="reads",
    ),
    workspace_tool(
        create_directory,
        PathArguments,
        "createDirectory",
        "Make a directory of the workspace and those that are missing on the way to it.",
        {"path": path_parameter("The directory, which must not exist")},
    ),
    workspace_tool(
        delete_directory,
        DeleteDirectoryArguments,
        "deleteDirectory",
        "Delete a directory of the workspace.",
        {
            "path": path_parameter("The directory"),
            "recursive": parameter(
                "boolean", "Delete what is in it, too. Else it must be empty.", default=False
            ),
        },
    ),
)
