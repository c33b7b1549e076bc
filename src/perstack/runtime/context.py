"""What all runs of one job share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from perstack.core.checkpoint import Checkpoint
from perstack.definition.model import Definitions
from perstack.redaction import Redactor
from perstack.runtime.budget import RunBudget
from perstack.runtime.elicitations import PendingElicitations, unattended
from perstack.runtime.event_writer import EventLog
from perstack.runtime.ports import Clock, Lease, Listener, Model, NewId, Skills
from perstack.runtime.prompt import WorkspaceInfo
from perstack.runtime.stored_results import ResultReader
from perstack.runtime.telemetry_port import Telemetry


class StepCounter(Protocol):
    """What a run needs of the steps of its job."""

    @property
    def first(self) -> int:
        """The highest number that was in use before."""
        ...

    @property
    def limit(self) -> int:
        """The highest number that may be used."""
        ...

    def take(self) -> int | None:
        """The next step number, or `None` when there is none left."""
        ...


@dataclass(slots=True)
class JobStepCounter:
    """The steps of a job.

    Numbers are handed out once, over all its runs, so the limit also holds for parallel delegates.

    Attributes:
        last: The highest number in use.
        limit: The highest number that may be used.
        first: The highest number that was in use before.
    """

    last: int
    limit: int
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.last

    def take(self) -> int | None:
        """The next step number, or `None` when there is none left."""
        if self.last >= self.limit:
            return None
        self.last += 1
        return self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """Everything that the runs of one activation of a job work with.

    `known_checkpoints` holds the newest checkpoint of each run that the store already had when the
    activation began; `listener` receives every event; `jitter` gives numbers from 0 to 1 to spread
    retries; `redactor` removes secrets from results; `result_reader` answers calls that read what
    was left out of them; `stop_reason` says why the job is being cancelled; `budget` is that of all
    runs together; `questions` are those of skill servers; `activation_id` is recorded with the
    first event of each run.
    """

    job_id: str
    definitions: Definitions
    definition_hash: str | None
    model: Model
    skills: Skills
    store: EventLog
    lease: Lease
    telemetry: Telemetry
    clock: Clock
    new_id: NewId
    jitter: Callable[[], float]
    stop_reason: Callable[[], str]
    listener: Listener
    redactor: Redactor
    result_reader: ResultReader
    steps: StepCounter
    budget: RunBudget
    workspace: WorkspaceInfo
    max_retries: int
    activation_id: str | None = None
    wants_deltas: bool = False
    known_checkpoints: dict[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])
    questions: PendingElicitations = field(default_factory=unattended)
