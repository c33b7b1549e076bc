"""Reloads the definition file when it is edited, without a restart.

Definitions are replaced as a whole or not at all. While the file is invalid, the previous
definitions stay in use, and the log says what is wrong.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from logging import getLogger
from typing import TypeVar

import anyio
import anyio.to_thread

from perstack.definition.file_watch import FileWatch
from perstack.definition.loader import LoadedDefinitions, load_definitions
from perstack.definition.model import Definitions
from perstack.errors import ConfigError, DefinitionError, PerstackError

LOG = getLogger(__name__)
Result = TypeVar("Result")

ApplyDefinitions = Callable[[LoadedDefinitions], Awaitable[None]]
"""Makes all engines use other definitions; raises `PerstackError` if they cannot."""

AnnounceChange = Callable[[Definitions, Definitions], None]
"""Notifies clients of the old and the new set, which are equal if only the problems changed."""


@dataclass(frozen=True, slots=True)
class WatchIntervals:
    """How a file is watched.

    Attributes:
        poll_seconds: Between two polls.
        settle_seconds: How long a file must be unchanged before it is read, so that it is not read
            while an editor is between truncating and writing it.
    """

    poll_seconds: float = 0.3
    settle_seconds: float = 0.25


class DefinitionsWatcher:
    """The current definitions of a file.

    Args:
        loaded: The definitions at start.
        is_strict: Whether warnings are errors.
        has_env_paths: Whether environment files were named elsewhere, so that `envPath` has no
            effect.
        file_watch: Created before the file was loaded, so that no edit since is missed.
        intervals: How the file is watched.

    Attributes:
        loaded: The definitions in use.
        problems: What is wrong with a rejected edit, a sentence each.
    """

    def __init__(
        self,
        loaded: LoadedDefinitions,
        *,
        is_strict: bool = False,
        has_env_paths: bool = False,
        file_watch: FileWatch | None = None,
        intervals: WatchIntervals | None = None,
    ) -> None:
        self.loaded = loaded
        self.problems: tuple[str, ...] = ()
        self._is_strict = is_strict
        self._env_path = None if has_env_paths else loaded.definitions.env_path
        self._file_watch = file_watch or FileWatch(loaded.path)
        self._intervals = intervals or WatchIntervals()
        self._reported_error = ""

    def definitions(self) -> Definitions:
        """The definitions in use."""
        return self.loaded.definitions

    async def watch(self, apply: ApplyDefinitions, announce: AnnounceChange) -> None:
        """Apply each edit, until cancelled."""
        is_settled = True
        while True:
            await anyio.sleep(
                self._intervals.poll_seconds if is_settled else self._intervals.settle_seconds
            )
            # A file system that does not respond must not block the event loop.
            has_changed = await _run_in_thread(self._file_watch.has_changed)
            if not has_changed and not is_settled:
                await self.reload(apply, announce)
            is_settled = not has_changed

    async def reload(self, apply: ApplyDefinitions, announce: AnnounceChange) -> None:
        """Read the file and apply its definitions, if they are valid and have changed."""
        try:
            new = await _run_in_thread(
                partial(load_definitions, self.loaded.path, strict=self._is_strict)
            )
            if new.digest == self.loaded.digest:
                self._clear_rejection(announce)
                return
            _reject_empty(new)
            await apply(new)
        except PerstackError as error:
            self._report_rejection(error, announce)
            return
        except Exception:  # an unexpected error must not end the watch
            LOG.exception("The edit of %s could not be taken in.", self.loaded.path)
            return
        old, self.loaded = self.loaded, new
        self._clear_rejection(announce)
        for warning in new.warnings:
            if warning not in old.warnings:
                LOG.warning("%s", warning)
        self._warn_if_env_path_changed(old.definitions, new.definitions)
        announce(old.definitions, new.definitions)

    def _report_rejection(self, error: PerstackError, announce: AnnounceChange) -> None:
        if str(error) == self._reported_error:
            return
        LOG.error("perstack: %s\nThe definitions before this edit stay in use.", error)
        self._reported_error = str(error)
        self.problems = (isinstance(error, DefinitionError) and error.problems) or (str(error),)
        announce(self.definitions(), self.definitions())

    def _clear_rejection(self, announce: AnnounceChange) -> None:
        if self._reported_error:
            LOG.warning("perstack: %s is in order again.", self.loaded.path)
            self._reported_error = ""
            self.problems = ()
            announce(self.definitions(), self.definitions())

    def _warn_if_env_path_changed(self, old: Definitions, new: Definitions) -> None:
        if self._env_path is not None and new.env_path not in (self._env_path, old.env_path):
            LOG.warning(
                "perstack: %s: envPath has changed; the files that it names are read when"
                " perstack serve is started again.",
                self.loaded.path.name,
            )


def _reject_empty(new: LoadedDefinitions) -> None:
    """Reject what looks like a file that is still being written.

    Raises:
        ConfigError: It defines no expert.
    """
    if not new.definitions.experts:
        raise ConfigError(
            f"{new.path} defines no expert any more.",
            hint="End perstack serve, if there shall be none.",
        )


async def _run_in_thread(work: Callable[[], Result]) -> Result:
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
