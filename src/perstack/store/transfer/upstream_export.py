"""Jobs as a folder of JSON files, in the layout that other tools for perstack read.

    jobs/JOB/job.json
    jobs/JOB/checkpoints/CHECKPOINT.json
    jobs/JOB/runs/RUN/run-setting.json
    jobs/JOB/runs/RUN/event-TIMESTAMP-STEP-TYPE.json

The files say the same things over and over: each checkpoint has the whole conversation.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perstack.core.checkpoint import Checkpoint, Job, State
from perstack.core.events import RunEvent, StartRun
from perstack.core.full_wire import to_full_wire
from perstack.core.history import JobHistory, RecordedEvent
from perstack.core.messages import TextPart, UserMessage
from perstack.core.step import StepTracker
from perstack.core.wire import checkpoint_to_wire, to_wire
from perstack.errors import ConfigError

Json = dict[str, Any]

JOBS_FOLDER = "jobs"


def export_job_folder(
    folder: Path, job: Job, events: Sequence[RunEvent], *, is_full: bool = False
) -> Path:
    """Write the files of a job below `folder`; what an earlier export wrote is replaced.

    Args:
        folder: Where to.
        job: Its summary.
        events: All that was stored of it.
        is_full: Whether events have the full shape.

    Returns:
        The folder of the job.

    Raises:
        ConfigError: The folder cannot be written.
    """
    job_folder = folder / JOBS_FOLDER / path_component(job.id)
    try:
        _write_job(job_folder, job, JobHistory(events).recorded_events, is_full=is_full)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or job_folder} cannot be written: {error.strerror}.",
            hint="Name another folder.",
        ) from error
    return job_folder


def path_component(text: str) -> str:
    """An id as the name of a file, wherever it comes from."""
    return quote(text, safe="@").replace(".", "%2E") if set(text) <= {"."} else quote(text, "@")


def _write_job(folder: Path, job: Job, history: Sequence[RecordedEvent], *, is_full: bool) -> None:
    runs: dict[str, list[RecordedEvent]] = {}
    for recorded in history:
        runs.setdefault(recorded.event.stamp.run_id, []).append(recorded)
    for run_id, run_history in runs.items():
        _write_run(folder / "runs" / path_component(run_id), run_history, is_full=is_full)
    for checkpoint in _resumable_checkpoints(runs.values()):
        _write_json(
            folder / "checkpoints" / f"{path_component(checkpoint.id)}.json",
            checkpoint_to_wire(checkpoint),
        )
    # Last, so that a job that can be listed is whole.
    _write_json(folder / "job.json", _job_document(job, history))


def _resumable_checkpoints(
    run_histories: Iterable[Sequence[RecordedEvent]],
) -> Iterable[Checkpoint]:
    """The checkpoints from which one resumes: where steps and runs ended, and runs branched off.

    Readers take the one with the highest step for the newest, so a run has one for each step, and
    further ones only where another run names them.
    """
    newest: dict[tuple[str, int], Checkpoint] = {}
    referenced_ids: set[str | None] = set()
    by_id: dict[str, Checkpoint] = {}
    for run_history in run_histories:
        for event, checkpoint in run_history:
            by_id[checkpoint.id] = checkpoint
            referenced_ids.add(checkpoint.parent_id)
            referenced_ids.add(checkpoint.delegated_by and checkpoint.delegated_by.checkpoint_id)
            if event.type == "continueToNextStep" or checkpoint.state is State.STOPPED:
                newest[checkpoint.run_id, checkpoint.step_number] = checkpoint
        last = run_history[-1][1]
        newest[last.run_id, last.step_number] = last
    kept_ids = {checkpoint.id for checkpoint in newest.values()} | referenced_ids
    return (checkpoint for checkpoint in by_id.values() if checkpoint.id in kept_ids)


def _write_run(folder: Path, run_history: Sequence[RecordedEvent], *, is_full: bool) -> None:
    first, after_first = run_history[0]
    _write_json(folder / "run-setting.json", _run_setting(first, after_first, run_history[-1][1]))
    used_names: set[str] = set()
    steps = StepTracker(is_full=is_full)
    to_document = to_full_wire if is_full else to_wire
    for event, checkpoint in run_history:
        document = to_document(event, checkpoint, steps.follow(event, checkpoint))
        timestamp = event.stamp.timestamp
        while (name := _event_file_name(event, timestamp, document["type"])) in used_names:
            # The file name cannot distinguish two such events, and both are exported.
            timestamp += 1
        used_names.add(name)
        _write_json(folder / name, document)
    for path in folder.glob("event-*.json"):
        if path.name not in used_names:  # an earlier export in another shape
            path.unlink()


def _event_file_name(event: RunEvent, timestamp: int, event_type: str) -> str:
    return f"event-{timestamp}-{event.stamp.step_number}-{event_type}.json"


def _job_document(job: Job, history: Sequence[RecordedEvent]) -> Json:
    limits = (checkpoint.step_limit for _, checkpoint in history if checkpoint.delegated_by is None)
    document: Json = {
        "id": job.id,
        "status": job.status,
        "coordinatorExpertKey": job.coordinator_expert_key,
        "totalSteps": job.total_steps,
        "maxSteps": max(limits, default=job.total_steps),
        "usage": _usage_document(job),
        "startedAt": job.started_at,
    }
    return document if job.finished_at is None else {**document, "finishedAt": job.finished_at}


def _usage_document(job: Job) -> Json:
    return job.usage.model_dump(mode="json", by_alias=True)


def _run_setting(first: RunEvent, after: Checkpoint, last: Checkpoint) -> Json:
    """The recorded settings of a run; environment and keys are never recorded."""
    return {
        "model": after.model,
        "providerConfig": {"providerName": after.provider},
        "jobId": after.job_id,
        "runId": after.run_id,
        "expertKey": after.expert.key,
        "input": {"text": _query_text(first)},
        "experts": {},
        "maxSteps": after.step_limit,
        "startedAt": after.started_at,
        "updatedAt": last.updated_at,
        "env": {},
    }


def _query_text(first: RunEvent) -> str:
    messages = first.input_messages if isinstance(first, StartRun) else ()
    user_messages = [message for message in messages if isinstance(message, UserMessage)]
    parts = user_messages[-1].contents if user_messages else ()
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _write_json(path: Path, document: Json) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Half a surrogate pair, as a model may write it, has no UTF-8 form but an escape sequence.
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
