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

from perstack.skills.builtin.failures import ToolFailure, os_errors_as_failures

RESERVED_FOLDER = "perstack"
MAX_LINKS = 40
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a named pipe would wait for its other end.
FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

PathParts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkspaceEntry:
    """A name in an open folder of the workspace; whether something has that name is not known."""

    dir_fd: int
    name: str
    path: str

    def stat(self) -> os.stat_result | None:
        """The status of the file, links not followed; `None` if there is none."""
        try:
            return os.stat(self.name, dir_fd=self.dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @contextmanager
    def open(self, flags: int) -> Generator[int]:
        """A handle of the regular file.

        Raises:
            ToolFailure: It is a link or something else that is not a regular file.
            OSError: It does not exist or cannot be opened.
        """
        try:
            handle = os.open(self.name, flags | FILE_FLAGS, dir_fd=self.dir_fd)
        except OSError as error:
            raise _open_failure(error, self.path) from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _not_regular_file(self.path, is_folder=stat.S_ISDIR(os.fstat(handle).st_mode))
            yield handle
        finally:
            os.close(handle)


class Workspace:
    """Resolves the paths that experts write. Blocking, but only for a few system calls.

    Args:
        root: The folder; links in its path are resolved once, here.
        home: The value of `~`.
    """

    def __init__(self, root: Path, home: str | None = None) -> None:
        self.root = root.resolve(strict=True)
        self._root_paths = (self.root, PurePosixPath(root.absolute()))
        self._home = home

    def parts(self, path: str) -> PathParts:
        """The components of a path below the root.

        Links of the workspace are not resolved, those on an absolute path that lead into it are.

        Raises:
            ToolFailure: The path leads outside or into perstack's own folder.
        """
        expanded = path
        if self._home and (path == "~" or path.startswith("~/")):
            expanded = self._home + path[1:]
        parts = self._relative_to_root((), expanded)
        if parts is None:
            raise ToolFailure(
                "AccessDenied",
                f"Access denied - path outside allowed directories: {path}. "
                "Use a path inside the workspace.",
            )
        if parts:
            _reject_reserved((), parts[0])
        return parts

    @contextmanager
    def directory(self, path: str) -> Generator[WorkspaceEntry]:
        """A folder of the workspace, itself open: the name `.` in it.

        Raises:
            ToolFailure: As for `parts`; a link on the way leads outside; or the system reports an
                error, also while the folder is in use.
        """
        with os_errors_as_failures("Directory", path):
            handle, resolved = self._open_directory(self.parts(path), create=False)
            try:
                yield WorkspaceEntry(handle, ".", display_path(resolved))
            finally:
                os.close(handle)

    @contextmanager
    def entry(
        self, path: str, noun: str = "File", *, follow: bool = False, create_parents: bool = False
    ) -> Generator[WorkspaceEntry]:
        """The entry of a path, in its open parent folder.

        Args:
            path: As the expert wrote it.
            noun: What should be there, for messages.
            follow: Whether the last component may be a link to something inside. The root itself
                can only be named for reading, that is with `follow`.
            create_parents: Create the missing parent folders.

        Raises:
            ToolFailure: As for `directory`.
        """
        with os_errors_as_failures(noun, path):
            handle, resolved = self._locate(self.parts(path), follow=follow, create=create_parents)
            name = resolved[-1] if resolved else "."
            try:
                yield WorkspaceEntry(handle, name, display_path(resolved))
            finally:
                os.close(handle)

    def _locate(self, parts: PathParts, *, follow: bool, create: bool) -> tuple[int, PathParts]:
        for _ in range(MAX_LINKS):
            if not parts and not follow:
                raise ToolFailure("AccessDenied", "The workspace itself cannot be changed.")
            handle, resolved = self._open_directory(parts[:-1], create=create)
            try:
                if not parts:
                    return handle, ()
                _reject_reserved(resolved, parts[-1])
                target = _read_link(handle, parts[-1]) if follow else None
                if target is None:
                    return handle, (*resolved, parts[-1])
                parts = self._resolve_link(resolved, parts[-1], target)
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _open_directory(self, parts: PathParts, *, create: bool) -> tuple[int, PathParts]:
        """A handle of the folder `parts`, and its components with links resolved."""
        remaining, resolved, links = list(parts), (), 0
        handle = os.open(self.root, DIRECTORY_FLAGS)
        try:
            while remaining:
                name = remaining.pop(0)
                _reject_reserved(resolved, name)
                try:
                    child = _open_child_directory(handle, name, create=create)
                    resolved = (*resolved, name)
                except OSError:
                    target = _read_link(handle, name)
                    links += 1
                    if target is None or links > MAX_LINKS:
                        raise
                    remaining = [*self._resolve_link(resolved, name, target), *remaining]
                    resolved = ()
                    child = os.open(self.root, DIRECTORY_FLAGS)
                os.close(handle)
                handle = child
        except BaseException:
            os.close(handle)
            raise
        return handle, resolved

    def _resolve_link(self, parent: PathParts, name: str, target: str) -> PathParts:
        parts = self._relative_to_root(parent, target)
        if parts is None:
            raise ToolFailure(
                "AccessDenied",
                "Access denied - symlink target outside allowed directories: "
                f"{display_path((*parent, name))} is a link that leads out of the workspace.",
            )
        return parts

    def _relative_to_root(self, base: PathParts, path: str) -> PathParts | None:
        """The components of `path`, relative to the folder `base`; `None` if it leads outside."""
        normalized = PurePosixPath(os.path.normpath(PurePosixPath(*base, path)))
        if not normalized.is_absolute():
            return None if normalized.parts[:1] == ("..",) else normalized.parts
        for root in self._root_paths:
            if normalized.is_relative_to(root):
                return normalized.relative_to(root).parts
        return self._relative_by_links(normalized)

    def _relative_by_links(self, path: PurePosixPath) -> PathParts | None:
        """The components of an absolute path that leads to the root, or into it, by links.

        What follows the link is walked by the rules of every other path.
        """
        for folder in (path, *path.parents) if Path(path).is_dir() else path.parents:
            real = PurePosixPath(os.path.realpath(folder))
            if real.is_relative_to(self.root):
                return (*real.relative_to(self.root).parts, *path.relative_to(folder).parts)
        return None


def display_path(parts: PathParts) -> str:
    """A path relative to the workspace, as results contain it."""
    return "/".join(parts) or "."


def is_reserved(parts: PathParts) -> bool:
    """Whether this is perstack's own folder or below it, also if names ignore case."""
    return bool(parts) and parts[0].casefold() == RESERVED_FOLDER


def _reject_reserved(parent: PathParts, name: str) -> None:
    if is_reserved((*parent, name)):
        raise ToolFailure("AccessDenied", "Access denied - perstack directory is not allowed.")


def _open_child_directory(parent: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    # Another call may create it meanwhile.
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)


def _read_link(parent: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def _open_failure(error: OSError, path: str) -> Exception:
    if error.errno == errno.ELOOP:
        return ToolFailure(
            "AccessDenied",
            f"Operation denied: target is a symbolic link: {path}. Use the path it leads to.",
        )
    if error.errno == errno.EISDIR:
        return _not_regular_file(path, is_folder=True)
    if error.errno in {errno.ENXIO, errno.ENODEV}:
        return _not_regular_file(path, is_folder=False)
    return error


def _not_regular_file(path: str, *, is_folder: bool) -> ToolFailure:
    if is_folder:
        return ToolFailure("IsADirectory", f"Path {path} is a directory.")
    return ToolFailure("Unsupported", f"Path {path} is not a regular file.")
