"""`moveFile` and `deleteFile`."""

import errno
import os
import stat

from perstack.models import FrozenModel
from perstack.skills.builtin.failures import (
    ToolFailure,
    failure_from_os_error,
)
from perstack.skills.builtin.tool import (
    JsonObject,
    PathArguments,
    PathText,
    path_parameter,
    workspace_tool,
)
from perstack.skills.builtin.workspace import Workspace, WorkspaceEntry

# What file systems without hard links report.
HARD_LINK_UNSUPPORTED_ERRORS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class MoveFileArguments(FrozenModel):
    source: PathText
    destination: PathText


def move_file(workspace: Workspace, args: MoveFileArguments) -> JsonObject:
    """Move or rename a file or directory; never onto an existing one."""
    with workspace.entry(args.source) as source:
        file_stat = source.stat()
        if file_stat is None:
            raise ToolFailure("NotFound", f"File {args.source} does not exist.")
        if not stat.S_ISLNK(file_stat.st_mode) and not os.access(
            source.name, os.W_OK, dir_fd=source.dir_fd
        ):
            raise ToolFailure("AccessDenied", f"File {args.source} is not writable")
        with workspace.entry(args.destination, "Destination", create_parents=True) as destination:
            if destination.stat() is not None:
                raise _destination_exists(args.destination)
            _move(source, destination, args, is_file=stat.S_ISREG(file_stat.st_mode))
    return {"source": source.path, "destination": destination.path}


def _move(
    source: WorkspaceEntry, destination: WorkspaceEntry, args: MoveFileArguments, *, is_file: bool
) -> None:
    if is_file and _try_hard_link(source, destination, args):
        try:
            os.unlink(source.name, dir_fd=source.dir_fd)
        except OSError:
            os.unlink(destination.name, dir_fd=destination.dir_fd)
            raise
        return
    try:
        os.rename(
            source.name,
            destination.name,
            src_dir_fd=source.dir_fd,
            dst_dir_fd=destination.dir_fd,
        )
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise ToolFailure(
                "InvalidArguments", f"{args.source} cannot be moved into itself."
            ) from None
        raise failure_from_os_error(error, "File", args.source) from None


def _try_hard_link(
    source: WorkspaceEntry, destination: WorkspaceEntry, args: MoveFileArguments
) -> bool:
    # Unlike a rename, a link never replaces a file that was created meanwhile.
    try:
        os.link(
            source.name,
            destination.name,
            src_dir_fd=source.dir_fd,
            dst_dir_fd=destination.dir_fd,
            follow_symlinks=False,
        )
    except FileExistsError:
        raise _destination_exists(args.destination) from None
    except OSError as error:
        if error.errno not in HARD_LINK_UNSUPPORTED_ERRORS:
            raise
        return False
    return True


def _destination_exists(path: str) -> ToolFailure:
    return ToolFailure("AlreadyExists", f"Destination {path} already exists.")


def delete_file(workspace: Workspace, args: PathArguments) -> JsonObject:
    with workspace.entry(args.path) as entry:
        file_stat = entry.stat()
        if file_stat is not None and stat.S_ISDIR(file_stat.st_mode):
            raise ToolFailure(
                "IsADirectory",
                f"Path {args.path} is a directory. Use delete directory tool instead.",
            )
        os.unlink(entry.name, dir_fd=entry.dir_fd)
    return {"path": entry.path}


TOOLS = (
    workspace_tool(
        move_file,
        MoveFileArguments,
        "moveFile",
        "Move or rename a file or directory of the workspace. The destination must not exist; "
        "folders that are missing on the way to it are made.",
        {
            "source": path_parameter("What to move"),
            "destination": path_parameter("Where it goes, with its new name"),
        },
    ),
    workspace_tool(
        delete_file,
        PathArguments,
        "deleteFile",
        "Delete a file of the workspace. For directories there is deleteDirectory.",
        {"path": path_parameter("The file")},
    ),
)
