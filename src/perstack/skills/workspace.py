"""The folder that experts may touch, entered one directory handle at a time.

A path is never handed to the system whole. Each component is opened relative to the handle of the
one before it and without following links, so nothing that another process swaps between a check and
its use can lead outside. A link is read and its target walked again from the root, by the same
rules: links that stay inside work for reading and on the way to a file, all others are refused.
"""

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from perstack.skills.base.failure import ToolFailure

CLOSED_FOLDER = "perstack"
MAX_LINKS = 40
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a named pipe would wait for its other end.
FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in an open folder of the workspace; the thing itself may or may not be there."""

    folder: int
    name: str
    path: str

    def stat(self) -> os.stat_result | None:
        """What is there, links not followed; `None` if nothing is."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @contextmanager
    def open(self, flags: int) -> Generator[int]:
        """A handle of the regular file.

        Raises:
            ToolFailure: It is a link or something else that is no regular file.
            OSError: It is not there or cannot be opened.
        """
        try:
            handle = os.open(self.name, flags | FILE_FLAGS, dir_fd=self.folder)
        except OSError as error:
            raise _why_not_opened(error, self.path) from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _not_regular(self.path, is_folder=stat.S_ISDIR(os.fstat(handle).st_mode))
            yield handle
        finally:
            os.close(handle)


class Workspace:
    """Resolves what experts write as paths. Blocking, but only for a few system calls.

    Args:
        root: The folder; it may be reached through links, which are resolved once, here.
        home: What `~` stands for.
    """

    def __init__(self, root: Path, home: str | None = None) -> None:
        self.root = root.resolve(strict=True)
        self._spellings = (self.root, PurePosixPath(root.absolute()))
        self._home = home

    def parts(self, path: str) -> Parts:
        """The components of a path below the root. Purely lexical; links are met when it is walked.

        Raises:
            ToolFailure: The path leads outside or into perstack's own folder.
        """
        expanded = path
        if self._home and (path == "~" or path.startswith("~/")):
            expanded = self._home + path[1:]
        parts = self._below_root((), expanded)
        if parts is None:
            raise ToolFailure(
                "AccessDenied",
                f"Access denied - path outside allowed directories: {path}. "
                "Use a path inside the workspace.",
            )
        if parts:
            _refuse_closed((), parts[0])
        return parts

    @contextmanager
    def directory(self, path: str) -> Generator[Entry]:
        """A folder of the workspace, itself open: the name `.` in it.

        Raises:
            ToolFailure: As for `parts`, or a link on the way leads outside.
            OSError: It is not there, or not a folder.
        """
        handle, here = self._enter(self.parts(path), create=False)
        try:
            yield Entry(handle, ".", shown(here))
        finally:
            os.close(handle)

    @contextmanager
    def entry(
        self, path: str, *, follow: bool = False, create_parents: bool = False
    ) -> Generator[Entry]:
        """What a path names, in the open folder that holds it.

        Args:
            path: As the expert wrote it.
            follow: Whether the last component may be a link to something inside. The root itself
                can only be named for reading, that is with `follow`.
            create_parents: Make the folders that are missing on the way.

        Raises:
            ToolFailure: As for `directory`.
            OSError: The folder that should hold it is not there.
        """
        handle, found = self._locate(self.parts(path), follow=follow, create=create_parents)
        try:
            yield Entry(handle, found[-1] if found else ".", shown(found))
        finally:
            os.close(handle)

    def _locate(self, wanted: Parts, *, follow: bool, create: bool) -> tuple[int, Parts]:
        for _ in range(MAX_LINKS):
            if not wanted and not follow:
                raise ToolFailure("AccessDenied", "The workspace itself cannot be changed.")
            handle, here = self._enter(wanted[:-1], create=create)
            try:
                if not wanted:
                    return handle, ()
                _refuse_closed(here, wanted[-1])
                target = _read_link(handle, wanted[-1]) if follow else None
                if target is None:
                    return handle, (*here, wanted[-1])
                wanted = self._behind_link(here, wanted[-1], target)
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _enter(self, wanted: Parts, *, create: bool) -> tuple[int, Parts]:
        """A handle of the folder `wanted`, and where it really is."""
        rest, here, links = list(wanted), (), 0
        handle = os.open(self.root, DIRECTORY_FLAGS)
        try:
            while rest:
                name = rest.pop(0)
                _refuse_closed(here, name)
                try:
                    inner = _open_folder(handle, name, create=create)
                    here = (*here, name)
                except OSError:
                    target = _read_link(handle, name)
                    links += 1
                    if target is None or links > MAX_LINKS:
                        raise
                    rest = [*self._behind_link(here, name, target), *rest]
                    here = ()
                    inner = os.open(self.root, DIRECTORY_FLAGS)
                os.close(handle)
                handle = inner
        except BaseException:
            os.close(handle)
            raise
        return handle, here

    def _behind_link(self, here: Parts, name: str, target: str) -> Parts:
        parts = self._below_root(here, target)
        if parts is None:
            raise ToolFailure(
                "AccessDenied",
                "Access denied - symlink target outside allowed directories: "
                f"{shown((*here, name))} is a link that leads out of the workspace.",
            )
        return parts

    def _below_root(self, here: Parts, path: str) -> Parts | None:
        """The components of `path`, relative to the folder `here`; `None` if it leads outside."""
        normal = PurePosixPath(os.path.normpath(PurePosixPath(*here, path)))
        if not normal.is_absolute():
            return None if normal.parts[:1] == ("..",) else normal.parts
        for root in self._spellings:
            if normal.is_relative_to(root):
                return normal.relative_to(root).parts
        return None


def shown(parts: Parts) -> str:
    """A path as experts are told it: relative to the workspace."""
    return "/".join(parts) or "."


def is_closed(parts: Parts) -> bool:
    """Whether this is perstack's own folder or below it, on any kind of file system."""
    return bool(parts) and parts[0].casefold() == CLOSED_FOLDER


def _refuse_closed(here: Parts, name: str) -> None:
    if is_closed((*here, name)):
        raise ToolFailure("AccessDenied", "Access denied - perstack directory is not allowed.")


def _open_folder(parent: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    # Another call may make it meanwhile; what counts is what can be opened then.
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)


def _read_link(parent: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def _why_not_opened(error: OSError, path: str) -> Exception:
    if error.errno == errno.ELOOP:
        return ToolFailure(
            "AccessDenied",
            f"Operation denied: target is a symbolic link: {path}. Use the path it leads to.",
        )
    if error.errno == errno.EISDIR:
        return _not_regular(path, is_folder=True)
    if error.errno in {errno.ENXIO, errno.ENODEV}:
        return _not_regular(path, is_folder=False)
    return error


def _not_regular(path: str, *, is_folder: bool) -> ToolFailure:
    if is_folder:
        return ToolFailure("IsADirectory", f"Path {path} is a directory.")
    return ToolFailure("Unsupported", f"Path {path} is not a regular file.")
