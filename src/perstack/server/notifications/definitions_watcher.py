"""Reloads the definition file when it is edited, without a restart.

While no expert of the file can be used, or what is wrong concerns all of them, the previous
definitions stay in use; else those of the sound experts are. The log says what is wrong.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from logging import getLogger

import anyio
import anyio.to_thread

from perstack.definition.file_watch import FileWatch
from perstack.definition.loader import LoadedDefinitions, load_definitions
from perstack.definition.model import Definitions
from perstack.errors import ConfigError, DefinitionError, PerstackError
from perstack.settings import Settings

LOG = getLogger(__name__)


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
        settings: With `is_strict` warnings are errors; with `env_paths` `envPath` has no effect.
        apply: Makes all engines use other definitions; raises `PerstackError` if they cannot.
        announce: Notifies clients of the old and the new set, which are equal if only the problems
            changed.
        file_watch: Created before the file was loaded, so that no edit since is missed.
        intervals: How the file is watched.

    Attributes:
        loaded: The definitions in use.
        problems: What is wrong with experts that are left out, or with a rejected edit, a sentence
            each.
    """

    def __init__(
        self,
        loaded: LoadedDefinitions,
        settings: Settings,
        apply: Callable[[LoadedDefinitions], Awaitable[None]],
        announce: Callable[[Definitions, Definitions], None],
        *,
        file_watch: FileWatch | None = None,
        intervals: WatchIntervals | None = None,
    ) -> None:
        self.loaded = loaded
        self.problems = loaded.fault_reports
        self._settings = settings
        self._first_env_path = loaded.definitions.env_path
        self._apply = apply
        self._announce = announce
        self._file_watch = file_watch or FileWatch(loaded.path)
        self._intervals = intervals or WatchIntervals()
        self._reported_error = "\n".join(self.problems)

    async def watch(self) -> None:
        """Apply each edit, until cancelled."""
        is_settled = True
        while True:
            await anyio.sleep(
                self._intervals.poll_seconds if is_settled else self._intervals.settle_seconds
            )
            # A file system that does not respond must not block the event loop.
            has_changed = await anyio.to_thread.run_sync(
                self._file_watch.has_changed, abandon_on_cancel=True
            )
            if not has_changed and not is_settled:
                await self.reload()
            is_settled = not has_changed

    async def reload(self) -> None:
        """Read the file and apply its definitions, if they are valid and have changed."""
        load = partial(
            load_definitions,
            self.loaded.path,
            strict=self._settings.is_strict,
            keep_sound=True,
        )
        try:
            new = await anyio.to_thread.run_sync(load, abandon_on_cancel=True)
            if new.digest == self.loaded.digest:
                self._report_faults()
                return
            _reject_empty(new)
            await self._apply(new)
        except PerstackError as error:
            self._report_rejection(error)
            return
        except Exception:  # an unexpected error must not end the watch
            LOG.exception("The edit of %s could not be taken in.", self.loaded.path)
            return
        old, self.loaded = self.loaded, new
        self._report_faults()
        for warning in new.warnings:
            if warning not in old.warnings:
                LOG.warning("%s", warning)
        known_env_paths = (self._first_env_path, old.definitions.env_path)
        if self._settings.env_paths is None and new.definitions.env_path not in known_env_paths:
            LOG.warning(
                "perstack: %s: envPath has changed; the files that it names are read when"
                " perstack serve is started again.",
                self.loaded.path.name,
            )
        self._announce(old.definitions, new.definitions)

    def _report_rejection(self, error: PerstackError) -> None:
        if str(error) == self._reported_error:
            return
        LOG.error("perstack: %s\nThe definitions before this edit stay in use.", error)
        self._reported_error = str(error)
        self.problems = (isinstance(error, DefinitionError) and error.problems) or (str(error),)
        self._announce(self.loaded.definitions, self.loaded.definitions)

    def _report_faults(self) -> None:
        """Say what is wrong with the definitions in use, or that nothing is any more."""
        faults = self.loaded.fault_reports
        text = "\n".join(faults)
        if text == self._reported_error:
            return
        if faults:
            LOG.error("perstack: %s", text)
        else:
            LOG.warning("perstack: %s is in order again.", self.loaded.path)
        self._reported_error = text
        self.problems = faults
        self._announce(self.loaded.definitions, self.loaded.definitions)


def _reject_empty(new: LoadedDefinitions) -> None:
    # It looks like a file that is still being written.
    if not new.definitions.experts:
        raise ConfigError(
            f"{new.path} defines no expert any more.",
            hint="End perstack serve, if there shall be none.",
        )
