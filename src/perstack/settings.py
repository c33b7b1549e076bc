"""The settings of an engine, the overrides of tests, and the resulting dependencies."""

import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from perstack.core.messages import Usage
from perstack.definition.budget import Budget
from perstack.definition.loader import LoadedDefinitions
from perstack.definition.model import Definitions, ReasoningBudget
from perstack.runtime.ports import Clock, Model, NewId, Skills, Store, SystemClock
from perstack.runtime.telemetry_port import Telemetry

OpenSkills = Callable[[Definitions], AbstractAsyncContextManager[Skills]]
"""Opens the pool of skills of one job.

Leaving the context closes every connection and ends every process.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the caller; `None` leaves one to `perstack.toml`, then to the built-in default.

    Attributes:
        config: Path of the definition file; else it is searched from the current folder upwards.
        workspace: The folder that experts work in; else `home` decides.
        home: Where the workspace is unless told otherwise: the folder of the definition file or the
        current one.
        env_paths: Files that add to the environment instead of those of `envPath`, in the current
        folder or else beside the definition file; each must exist.
        provider: Overrides the provider of the file.
        model: Overrides every model and tier.
        reasoning_budget: Overrides the file's.
        max_steps: Steps for one request, over all its runs.
        budget: What a request may use; where the file or the caller is stricter, that holds.
        max_retries: Retries of one generation.
        timeout_ms: Milliseconds for one generation.
        is_strict: Whether unknown keys of the file are errors.
        is_streaming: Whether replies are published piece by piece.
        environment: The process's environment, if not the real one.
        is_in_memory: Keep nothing on disk.
        is_attended: Whether a user answers the questions of skill servers; else each is cancelled
        at once.
        transport: What the telemetry says about the way in: cli, stdio, http or library.
    """

    config: Path | None = None
    workspace: Path | None = None
    home: Literal["config", "cwd"] = "cwd"
    env_paths: tuple[str, ...] | None = None
    provider: str | None = None
    model: str | None = None
    reasoning_budget: ReasoningBudget | None = None
    max_steps: int | None = None
    budget: Budget | None = None
    max_retries: int | None = None
    timeout_ms: int | None = None
    is_strict: bool = False
    is_streaming: bool = False
    environment: Mapping[str, str] | None = None
    is_in_memory: bool = False
    is_attended: bool = False
    transport: str = "library"


def new_id() -> str:
    """A new id: 24 lower-case letters and digits, too random to guess or to meet twice."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    # One random number takes a fifth of the time of one for each character.
    number, letter = divmod(secrets.randbelow(26 * 36**23), 26)
    return alphabet[letter] + "".join(alphabet[number // 36**place % 36] for place in range(23))


class EngineLoad(Protocol):
    """The load of an engine, for the decision whether it may drive one more job."""

    @property
    def live_job_ids(self) -> tuple[str, ...]:
        """The jobs that the engine drives."""
        ...

    async def usage_since(self, moment_ms: int) -> Usage:
        """What the jobs of its store have used since a moment, in dollars as far as is known.

        Raises:
            StoreError: The store cannot be read.
        """
        ...


Admit = Callable[[EngineLoad], Awaitable[None]]
"""Raises `JobStateError` if an engine may not drive one more job now.

Must count live jobs after its last `await`.
"""


async def admit_all(_engine: EngineLoad) -> None:
    """Let any number of jobs run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Replacements for the dependencies that the engine would otherwise create."""

    model: Model | None = None
    store: Store | None = None
    open_skills: OpenSkills | None = None
    telemetry: Telemetry | None = None
    clock: Clock = field(default_factory=SystemClock)
    new_id: NewId = new_id
    jitter: Callable[[], float] = random.random
    admit: Admit = admit_all


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """The dependencies of an engine."""

    settings: Settings
    workspace: Path
    environment: Mapping[str, str]
    loaded: LoadedDefinitions
    model: Model
    store: Store
    open_skills: OpenSkills
    telemetry: Telemetry
    flush_telemetry: Callable[[], None]
    overrides: Overrides
