"""What runs and jobs add up to: pure sums over facts that a store reads from its events."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil

from perstack.core.checkpoint import CheckpointStatus, Job, JobStatus
from perstack.core.messages import Usage

ToolKey = tuple[str, str]
"""The names of a skill and of one of its tools."""


def new_durations() -> "array[int]":
    """An empty row of durations, which takes eight bytes for each."""
    return array("q")


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """Figures of one run.

    Attributes:
        expert_key: Whose run it is.
        model: Who generated.
        status: Its status.
        started_at: Milliseconds since the epoch.
        steps: How many of the job's steps were this run's.
        usage: Tokens of all generations, the failed ones included.
        known_cost_usd: US dollars for those tokens whose price is known.
        unpriced_tokens: The others.
        retries: Attempts at a generation that were repeated, by the name of the error.
        errors: What stopped the run, each time that it did, by name.
        tool_calls: Answered calls of each tool.
        tool_failures: Those of them that were answered with an error.
        generation_ms: How long each generation took, the failed ones included.
        tool_ms: How long each call of a skill's tool took.
    """

    expert_key: str
    model: str
    status: CheckpointStatus = "init"
    started_at: int = 0
    steps: int = 0
    usage: Usage = field(default_factory=Usage)
    known_cost_usd: float = 0.0
    unpriced_tokens: int = 0
    retries: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    tool_calls: Counter[ToolKey] = field(default_factory=Counter[ToolKey])
    tool_failures: Counter[ToolKey] = field(default_factory=Counter[ToolKey])
    generation_ms: "array[int]" = field(default_factory=new_durations)
    tool_ms: "array[int]" = field(default_factory=new_durations)


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job's summary and its runs, the one that it began with first."""

    job: Job
    runs: tuple[RunFacts, ...]


@dataclass(slots=True)
class Stats:
    """Sums over jobs and runs.

    Attributes:
        jobs: How many, by status.
        job_ms: How long each job took that has ended, waiting included.
        runs: How many, by status.
    """

    jobs: Counter[JobStatus] = field(default_factory=Counter[JobStatus])
    job_ms: "array[int]" = field(default_factory=new_durations)
    runs: Counter[CheckpointStatus] = field(default_factory=Counter[CheckpointStatus])
    steps: int = 0
    usage: Usage = field(default_factory=Usage)
    known_cost_usd: float = 0.0
    unpriced_tokens: int = 0
    retries: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    tool_calls: Counter[ToolKey] = field(default_factory=Counter[ToolKey])
    tool_failures: Counter[ToolKey] = field(default_factory=Counter[ToolKey])
    generation_ms: "array[int]" = field(default_factory=new_durations)
    tool_ms: "array[int]" = field(default_factory=new_durations)

    def add_job(self, job: Job) -> None:
        """Count a job, without its runs."""
        self.jobs[job.status] += 1
        if job.finished_at is not None:
            self.job_ms.append(job.finished_at - job.started_at)

    def add_run(self, run: RunFacts) -> None:
        """Count a run."""
        self.runs[run.status] += 1
        self.steps += run.steps
        self.usage += run.usage
        self.known_cost_usd += run.known_cost_usd
        self.unpriced_tokens += run.unpriced_tokens
        self.retries.update(run.retries)
        self.errors.update(run.errors)
        self.tool_calls.update(run.tool_calls)
        self.tool_failures.update(run.tool_failures)
        self.generation_ms.extend(run.generation_ms)
        self.tool_ms.extend(run.tool_ms)


class GroupedStats:
    """Figures of all jobs, and of each expert, model and day by itself.

    A run counts for its own expert and model and for the day on which it began; a job for those of
    the run that it began with.

    Args:
        day_of: The name of the day of a moment, in milliseconds since the epoch.
    """

    def __init__(self, day_of: Callable[[int], str]) -> None:
        self._day_of = day_of
        self.total = Stats()
        self.groups: dict[str, dict[str, Stats]] = {"expert": {}, "model": {}, "day": {}}

    def add(self, facts: JobFacts) -> None:
        """Count a job and its runs."""
        self.total.add_job(facts.job)
        for run in facts.runs[:1]:
            for stats in self._groups_of(run):
                stats.add_job(facts.job)
        for run in facts.runs:
            self.total.add_run(run)
            for stats in self._groups_of(run):
                stats.add_run(run)

    def _groups_of(self, run: RunFacts) -> Iterable[Stats]:
        keys = {
            "expert": run.expert_key,
            "model": run.model,
            "day": self._day_of(run.started_at),
        }
        return [self.groups[by].setdefault(key, Stats()) for by, key in keys.items()]


def quantile(durations: Iterable[int], fraction: float) -> int | None:
    """The smallest duration that at least `fraction` of them do not exceed; `None` without any."""
    ordered = sorted(durations)
    return ordered[max(ceil(fraction * len(ordered)), 1) - 1] if ordered else None
