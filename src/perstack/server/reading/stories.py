"""A job as a document: how it stands, the tree of its runs, and its answer in full."""

from collections.abc import Sequence
from typing import Any

from perstack.core.checkpoint import Checkpoint, Job
from perstack.jobs import JobView
from perstack.server.calls.results import STATUS_OF, form_of_text, status_of
from perstack.server.reading.addresses import of_job
from perstack.server.reading.documents import Document, JobEntry, as_json, moment, sound

Json = dict[str, Any]

MAX_TEXT_SHOWN = 2000


def entry_of(job: Job) -> JobEntry:
    """A job for a listing."""
    return JobEntry(
        job_id=job.id,
        expert=job.coordinator_expert_key,
        status=STATUS_OF[job.status],
        query=sound(job.query),
        updated_at=moment(job.updated_at),
    )


def job_entry(job: Job) -> Json:
    """A job as one entry of a document."""
    finished = {} if job.finished_at is None else {"finished_at": moment(job.finished_at)}
    return {
        "job_id": job.id,
        "expert": job.coordinator_expert_key,
        "status": STATUS_OF[job.status],
        "query": job.query,
        "steps": job.total_steps,
        "started_at": moment(job.started_at),
        "updated_at": moment(job.updated_at),
        **finished,
        "uri": of_job("job", job.id).uri,
    }


def job_document(view: JobView) -> Document:
    """How a job stands."""
    job = view.job
    text = view.text[:MAX_TEXT_SHOWN]
    cut = {"text_characters": len(view.text)} if len(view.text) > MAX_TEXT_SHOWN else {}
    trace = {} if view.trace_id is None else {"trace_id": view.trace_id}
    questions = [
        {"tool_call_id": each.id, "tool_name": each.tool_name, "message": each.message}
        for each in view.questions
    ]
    document = {
        **job_entry(job),
        "status": status_of(view),
        "checkpoint_id": view.checkpoint.id,
        "text": text,
        **cut,
        **({"questions": questions} if questions else {}),
        "usage": view.usage.model_dump(by_alias=False),
        **trace,
        "runs": _tree(view.runs),
        "events": of_job("events", job.id).uri,
        "checkpoints": of_job("checkpoints", job.id).uri,
        "result": of_job("result", job.id).uri,
    }
    return Document(text=as_json(document))


def result_document(view: JobView) -> Document:
    """The whole answer; of a job without one, the error, the question or the text so far."""
    asked = [question.message for question in view.questions]
    text = "\n".join(part for part in (view.text, *asked) if part)
    return Document(text=sound(text), mime_type=form_of_text(view))


def _tree(runs: Sequence[Checkpoint]) -> list[Json]:
    """The runs that nobody delegated, each with those that it delegated to, however deep."""
    branches: dict[str, list[Json]] = {}
    roots: list[Json] = []
    for run in runs:
        leaf = _run(run)
        branches[run.run_id] = leaf["delegates"]
        # A run is always younger than the one that delegated it.
        parent = run.delegated_by and branches.get(run.delegated_by.run_id)
        (roots if parent is None else parent).append(leaf)
    return roots


def _run(run: Checkpoint) -> Json:
    return {
        "run_id": run.run_id,
        "expert": run.expert.key,
        "status": run.status,
        "step": run.step_number,
        "checkpoint_id": run.id,
        "usage": run.usage.model_dump(by_alias=False),
        "delegates": list[Json](),
    }
