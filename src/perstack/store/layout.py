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
from perstack.core.messages import TextPart, UserMessage
from perstack.core.trail import Step, Trail
from perstack.core.wire import checkpoint_to_wire, to_wire
from perstack.errors import ConfigError

Json = dict[str, Any]

JOBS = "jobs"


def write_layout(folder: Path, job: Job, events: Sequence[RunEvent]) -> Path:
    """Write the files of a job below `folder`; what an earlier export wrote is replaced.

    Returns:
        The folder of the job.

    Raises:
        ConfigError: The folder cannot be written.
    """
    home = folder / JOBS / component(job.id)
    try:
        _write_job(home, job, Trail(events).steps)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or home} cannot be written: {error.strerror}.",
            hint="Name another folder.",
        ) from error
    return home


def component(text: str) -> str:
    """An id as the name of a file, wherever it comes from."""
    return quote(text, safe="@").replace(".", "%2E") if set(text) <= {"."} else quote(text, "@")


def _write_job(home: Path, job: Job, steps: Sequence[Step]) -> None:
    runs: dict[str, list[Step]] = {}
    for event, checkpoint in steps:
        runs.setdefault(event.stamp.run_id, []).append((event, checkpoint))
    for run_id, course in runs.items():
        _write_run(home / "runs" / component(run_id), course)
    for checkpoint in _kept(runs.values()):
        _write(
            home / "checkpoints" / f"{component(checkpoint.id)}.json",
            checkpoint_to_wire(checkpoint),
        )
    # Last, so that a job that can be listed is whole.
    _write(home / "job.json", _job(job, steps))


def _kept(courses: Iterable[Sequence[Step]]) -> Iterable[Checkpoint]:
    """The checkpoints from which one resumes: where steps and runs ended, and runs branched off.

    Readers take the one with the highest step for the newest, so a run has one for each step, and
    further ones only where another run names them.
    """
    newest: dict[tuple[str, int], Checkpoint] = {}
    named: set[str | None] = set()
    passed: dict[str, Checkpoint] = {}
    for course in courses:
        for event, checkpoint in course:
            passed[checkpoint.id] = checkpoint
            named.add(checkpoint.parent_id)
            named.add(checkpoint.delegated_by and checkpoint.delegated_by.checkpoint_id)
            if event.type == "continueToNextStep" or checkpoint.state is State.STOPPED:
                newest[checkpoint.run_id, checkpoint.step_number] = checkpoint
        last = course[-1][1]
        newest[last.run_id, last.step_number] = last
    kept = {checkpoint.id for checkpoint in newest.values()} | named
    return (checkpoint for checkpoint in passed.values() if checkpoint.id in kept)


def _write_run(home: Path, course: Sequence[Step]) -> None:
    first, after_first = course[0]
    _write(home / "run-setting.json", _setting(first, after_first, course[-1][1]))
    taken: set[str] = set()
    for event, checkpoint in course:
        moment = event.stamp.timestamp
        while (name := _event_file(event, moment)) in taken:
            # The name has no place for what tells two such events apart, and both are wanted.
            moment += 1
        taken.add(name)
        _write(home / name, to_wire(event, checkpoint))


def _event_file(event: RunEvent, moment: int) -> str:
    return f"event-{moment}-{event.stamp.step_number}-{event.type}.json"


def _job(job: Job, steps: Sequence[Step]) -> Json:
    limits = (checkpoint.step_limit for _, checkpoint in steps if checkpoint.delegated_by is None)
    document: Json = {
        "id": job.id,
        "status": job.status,
        "coordinatorExpertKey": job.coordinator_expert_key,
        "totalSteps": job.total_steps,
        "maxSteps": max(limits, default=job.total_steps),
        "usage": _usage(job),
        "startedAt": job.started_at,
    }
    return document if job.finished_at is None else {**document, "finishedAt": job.finished_at}


def _usage(job: Job) -> Json:
    return job.usage.model_dump(mode="json", by_alias=True)


def _setting(first: RunEvent, after: Checkpoint, last: Checkpoint) -> Json:
    """What is known of the settings of a run; environment and keys are not, and never were."""
    return {
        "model": after.model,
        "providerConfig": {"providerName": after.provider},
        "jobId": after.job_id,
        "runId": after.run_id,
        "expertKey": after.expert.key,
        "input": {"text": _query(first)},
        "experts": {},
        "maxSteps": after.step_limit,
        "startedAt": after.started_at,
        "updatedAt": last.updated_at,
        "env": {},
    }


def _query(first: RunEvent) -> str:
    messages = first.input_messages if isinstance(first, StartRun) else ()
    spoken = [message for message in messages if isinstance(message, UserMessage)]
    parts = spoken[-1].contents if spoken else ()
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _write(path: Path, document: Json) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Half a surrogate pair, as a model may write it, has no UTF-8 form but an escape sequence.
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
