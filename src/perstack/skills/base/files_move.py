"""`moveFile` and `deleteFile`."""

import errno
import os
import stat

from perstack.definition.record import Record
from perstack.skills.base.failure import ToolFailure, failure_of, in_words
from perstack.skills.base.tool import (
    Facts,
    PathArgument,
    PathText,
    changing,
    define,
    path_property,
    path_schema,
)
from perstack.skills.workspace import Entry, Workspace

# File systems without hard links say one of these.
NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class MoveFile(Record):
    """Arguments of `moveFile`."""

    source: PathText
    destination: PathText


def move_file(workspace: Workspace, args: MoveFile) -> Facts:
    """Move or rename a file or directory; never onto something that is there."""
    with in_words("File", args.source), workspace.entry(args.source) as source:
        found = source.stat()
        if found is None:
            raise ToolFailure("NotFound", f"File {args.source} does not exist.")
        if not stat.S_ISLNK(found.st_mode) and not os.access(
            source.name, os.W_OK, dir_fd=source.folder
        ):
            raise ToolFailure("AccessDenied", f"File {args.source} is not writable")
        with (
            in_words("Destination", args.destination),
            workspace.entry(args.destination, create_parents=True) as destination,
        ):
            if destination.stat() is not None:
                raise _taken(args.destination)
            _move(source, destination, args, is_file=stat.S_ISREG(found.st_mode))
    return {"source": source.path, "destination": destination.path}


def _move(source: Entry, destination: Entry, args: MoveFile, *, is_file: bool) -> None:
    if is_file and _linked(source, destination, args):
        try:
            os.unlink(source.name, dir_fd=source.folder)
        except OSError:
            os.unlink(destination.name, dir_fd=destination.folder)
            raise
        return
    try:
        os.rename(
            source.name,
            destination.name,
            src_dir_fd=source.folder,
            dst_dir_fd=destination.folder,
        )
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise ToolFailure(
                "InvalidArguments", f"{args.source} cannot be moved into itself."
            ) from None
        raise failure_of(error, "File", args.source) from None


def _linked(source: Entry, destination: Entry, args: MoveFile) -> bool:
    """Give the file its second name. Unlike a rename that never replaces what came meanwhile.

    Returns:
        Whether the file system could; not all have hard links.
    """
    try:
        os.link(
            source.name,
            destination.name,
            src_dir_fd=source.folder,
            dst_dir_fd=destination.folder,
            follow_symlinks=False,
        )
    except FileExistsError:
        raise _taken(args.destination) from None
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return False
    return True


def _taken(path: str) -> ToolFailure:
    return ToolFailure("AlreadyExists", f"Destination {path} already exists.")


def delete_file(workspace: Workspace, args: PathArgument) -> Facts:
    """Delete a file; of a link, the link itself."""
    with in_words("File", args.path), workspace.entry(args.path) as entry:
        found = entry.stat()
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise ToolFailure(
                "IsADirectory",
                f"Path {args.path} is a directory. Use delete directory tool instead.",
            )
        os.unlink(entry.name, dir_fd=entry.folder)
    return {"path": entry.path}


TOOLS = (
    changing(
        define(
            "moveFile",
            "Move or rename a file or directory of the workspace. The destination must not exist; "
            "folders that are missing on the way to it are made.",
            {
                "properties": {
                    "source": path_property("What to move"),
                    "destination": path_property("Where it goes, with its new name"),
                },
                "required": ["source", "destination"],
            },
        ),
        MoveFile,
        move_file,
    ),
    changing(
        define(
            "deleteFile",
            "Delete a file of the workspace. For directories there is deleteDirectory.",
            path_schema("The file"),
        ),
        PathArgument,
        delete_file,
    ),
)
