"""What a store must know of a job to accept further events, and the summary that follows from them.

Pure, and shared by all stores, so that they agree on statuses and on what they refuse.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from perstack.core.checkpoint import FINISHED_STATUSES, JOB_STATUS_OF, CheckpointStatus, Job
from perstack.core.events import (
    ResumeFromStop,
    RunEvent,
    StartRun,
    generation_usage,
    parse_checkpoint_id,
)
from perstack.core.messages import TextPart, UserMessage
from perstack.errors import StoreError
from perstack.text import replace_surrogates

QUERY_LENGTH = 200

STATUS_BY_EVENT_TYPE: dict[str, CheckpointStatus] = {
    "startRun": "proceeding",
    "resumeFromStop": "proceeding",
    "completeRun": "completed",
    "stopRunByInteractiveTool": "stoppedByInteractiveTool",
    "stopRunByDelegate": "stoppedByDelegate",
    "stopRunByExceededMaxSteps": "stoppedByExceededMaxSteps",
    "stopRunByExceededBudget": "stoppedByExceededBudget",
    "stopRunByError": "stoppedByError",
    "stopRunByCancellation": "stoppedByCancellation",
}


@dataclass(frozen=True, slots=True)
class RunHead:
    """The position of a run in the store. A root run was not delegated."""

    expert_key: str
    is_root: bool
    last_sequence: int


@dataclass(frozen=True, slots=True)
class JobProjection:
    """A job's summary, its newest root run, and the tails of those runs that matter just now."""

    job: Job
    root_run_id: str
    heads: Mapping[str, RunHead]


def required_run_ids(events: Iterable[RunEvent]) -> set[str]:
    """The runs whose tails `enter` needs for these events."""
    events = tuple(events)
    base_run_ids = {_base_run_id(event) for event in events}
    return {event.stamp.run_id for event in events} | {base for base in base_run_ids if base}


def apply_events(
    projection: JobProjection | None, events: Sequence[RunEvent]
) -> JobProjection | None:
    """The projection after further events; `None` for a job that is not stored yet.

    Raises:
        StoreError: An event is stored already, leaves a gap, or begins no job or run.
    """
    if not events:
        return projection
    projection = projection or _new_projection(events[0])
    root_run_id, heads = projection.root_run_id, dict(projection.heads)
    first_events: list[RunEvent] = []
    root_events: list[RunEvent] = []
    for event in events:
        run_id = event.stamp.run_id
        head = heads.get(run_id) or _new_run_head(projection.job.id, heads, event)
        _check_order(event, head)
        heads[run_id] = replace(head, last_sequence=event.stamp.sequence)
        if event.stamp.sequence == 1:
            first_events.append(event)
            root_run_id = run_id if head.is_root else root_run_id
        if run_id == root_run_id:
            root_events.append(event)
    job = _update_status(_update_summary(projection.job, events, len(first_events)), root_events)
    return JobProjection(job=job, root_run_id=root_run_id, heads=heads)


def _check_order(event: RunEvent, head: RunHead) -> None:
    stamp = event.stamp
    if stamp.sequence != head.last_sequence + 1:
        problem = "is already stored" if stamp.sequence <= head.last_sequence else "comes too early"
        raise StoreError(
            f"Event {event.id} {problem}: run {stamp.run_id} has {head.last_sequence} events.",
            hint="Load the job again before you go on with it.",
        )
    if stamp.expert_key != head.expert_key:
        raise StoreError(f"Event {event.id} names another expert than its run, {head.expert_key}.")


def with_interrupted(job: Job, *, is_driven: bool) -> Job:
    """The job for readers: one that runs without a driver is interrupted."""
    if job.status == "running" and not is_driven:
        return job.model_copy(update={"status": "interrupted"})
    return job


def group_by_run(events: Iterable[RunEvent]) -> dict[str, tuple[RunEvent, ...]]:
    """The events of each run, in the order in which the runs began."""
    runs: dict[str, list[RunEvent]] = {}
    for event in events:
        runs.setdefault(event.stamp.run_id, []).append(event)
    return {run_id: tuple(of_run) for run_id, of_run in runs.items()}


def _new_projection(event: RunEvent) -> JobProjection:
    if not isinstance(event, StartRun):
        raise StoreError(
            f"Event {event.id} cannot be the first of job {event.stamp.job_id}: it is no startRun."
        )
    job = Job(
        id=event.stamp.job_id,
        status="running",
        coordinator_expert_key=event.stamp.expert_key,
        query=_query_preview(event),
        started_at=event.stamp.timestamp,
        updated_at=event.stamp.timestamp,
    )
    return JobProjection(job=job, root_run_id=event.stamp.run_id, heads={})


def _query_preview(event: StartRun) -> str:
    for message in event.input_messages:
        if isinstance(message, UserMessage):
            for part in message.contents:
                if isinstance(part, TextPart):
                    return replace_surrogates(part.text[:QUERY_LENGTH])
    return ""


def _new_run_head(job_id: str, heads: Mapping[str, RunHead], event: RunEvent) -> RunHead:
    if not isinstance(event, StartRun | ResumeFromStop):
        raise StoreError(f"Event {event.id} belongs to a run that has not begun.")
    if isinstance(event, StartRun):
        is_root = event.delegated_by is None
    else:
        base = heads.get(_base_run_id(event) or "")
        if base is None:
            raise StoreError(f"Event {event.id} branches from a run that job {job_id} lacks.")
        is_root = base.is_root
    return RunHead(expert_key=event.stamp.expert_key, is_root=is_root, last_sequence=0)


def _base_run_id(event: RunEvent) -> str | None:
    if isinstance(event, ResumeFromStop) and event.continued_from:
        return parse_checkpoint_id(event.continued_from).run_id
    return None


def _update_summary(job: Job, events: Sequence[RunEvent], new_runs: int) -> Job:
    """The job with what all its runs add to."""
    usages = [usage for event in events if (usage := generation_usage(event)) is not None]
    return job.model_copy(
        update={
            "total_steps": max(job.total_steps, *(event.stamp.step_number for event in events)),
            "usage": sum(usages, start=job.usage),
            "run_count": job.run_count + new_runs,
            "updated_at": max(job.updated_at, *(event.stamp.timestamp for event in events)),
        }
    )


def _update_status(job: Job, root_events: Sequence[RunEvent]) -> Job:
    """The job with the status that its newest root run gives it."""
    event = next(
        (each for each in reversed(root_events) if each.type in STATUS_BY_EVENT_TYPE), None
    )
    if event is None:
        return job
    status = JOB_STATUS_OF[STATUS_BY_EVENT_TYPE[event.type]]
    finished_at = event.stamp.timestamp if status in FINISHED_STATUSES else None
    return job.model_copy(update={"status": status, "finished_at": finished_at})
