"""Resources of jobs, long ones page by page.

A page is short enough for any client and links to the next one. Events are numbered within their
job in the order of writing, so a full page never changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from perstack.core.checkpoint import Checkpoint, Job
from perstack.core.elicitation import question_text
from perstack.core.history import RecordedEvent
from perstack.core.step import steps_of
from perstack.core.wire import JsonObject, checkpoint_to_wire, to_wire
from perstack.jobs import JobView
from perstack.server.resources.uris import ResourceUri, job_uri
from perstack.server.summaries import (
    MAX_PAGE_BYTES,
    MIME_JSON_LINES,
    PUBLIC_STATUS,
    Document,
    JobEntry,
    iso_timestamp,
    public_status,
    text_mime_type,
    to_json_line,
    to_pretty_json,
    utf8_size,
)
from perstack.text import replace_surrogates

RecordedEvents = Sequence[RecordedEvent]

STAMP_FIELDS = ("type", "id", "timestamp", "jobId", "runId", "expertKey", "stepNumber")
MAX_TEXT_SHOWN = 2000
MAX_VALUE_CHARACTERS = 600
MAX_OUTLINE_CHARACTERS = 60_000
OMITTED_FIELDS = frozenset({"checkpoint", "initialCheckpoint", "jobId", "id", "usage"})
"""Fields that other events or the job repeat."""


def outline_events(events: RecordedEvents) -> str:
    """One event a line, with long values cut; of a long job only the beginning and the end."""
    lines = [_outline_line(to_wire(event, checkpoint)) for event, checkpoint in events]
    budget = MAX_OUTLINE_CHARACTERS // 2
    first = _count_fitting(lines, budget)
    last = _count_fitting(lines[first:][::-1], budget)
    omitted = len(lines) - first - last
    if not omitted:
        return "".join(lines)
    note = f"[{omitted} events are left out here]\n"
    return "".join([*lines[:first], note, *lines[len(lines) - last :]])


def _count_fitting(lines: Sequence[str], budget: int) -> int:
    for count, line in enumerate(lines):
        budget -= len(line)
        if budget < 0:
            return count
    return len(lines)


def _outline_line(wire: Mapping[str, Any]) -> str:
    return to_json_line(
        {name: _shorten_value(part) for name, part in wire.items() if name not in OMITTED_FIELDS}
    )


def _shorten_value(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
        return f"{value[:MAX_VALUE_CHARACTERS]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {name: _shorten_value(part) for name, part in fields.items()}
    if isinstance(value, list):
        return [_shorten_value(part) for part in cast("list[Any]", value)]
    return value


def listing_entry(job: Job) -> JobEntry:
    return JobEntry(
        job_id=job.id,
        expert=job.coordinator_expert_key,
        status=PUBLIC_STATUS[job.status],
        query=replace_surrogates(_shorten_value(job.query)),
        updated_at=iso_timestamp(job.updated_at),
    )


def job_fields(job: Job) -> JsonObject:
    finished = {} if job.finished_at is None else {"finished_at": iso_timestamp(job.finished_at)}
    return {
        "job_id": job.id,
        "expert": job.coordinator_expert_key,
        "status": PUBLIC_STATUS[job.status],
        "query": _shorten_value(job.query),
        "steps": job.total_steps,
        "started_at": iso_timestamp(job.started_at),
        "updated_at": iso_timestamp(job.updated_at),
        **finished,
        "uri": job_uri("job", job.id).text,
    }


def job_document(view: JobView) -> Document:
    job = view.job
    text = view.text[:MAX_TEXT_SHOWN]
    truncation = {"text_characters": len(view.text)} if len(view.text) > MAX_TEXT_SHOWN else {}
    trace = {} if view.trace_id is None else {"trace_id": view.trace_id}
    questions = [
        {"tool_call_id": each.id, "tool_name": each.tool_name, "message": each.message}
        for each in view.questions
    ]
    document = {
        **job_fields(job),
        "status": public_status(view),
        "checkpoint_id": view.checkpoint.id,
        "text": text,
        **truncation,
        **({"questions": questions} if questions else {}),
        "usage": view.usage.model_dump(by_alias=False),
        **trace,
        "runs": _run_tree(view.runs),
        "events": job_uri("events", job.id).text,
        "checkpoints": job_uri("checkpoints", job.id).text,
        "result": job_uri("result", job.id).text,
    }
    return Document(text=to_pretty_json(document))


def result_document(view: JobView) -> Document:
    """The answer; of an unfinished job the error, the question or the text so far."""
    messages = [question_text(question) for question in view.questions]
    text = "\n".join(part for part in (view.text, *messages) if part)
    return Document(text=replace_surrogates(text), mime_type=text_mime_type(view))


def _run_tree(runs: Sequence[Checkpoint]) -> list[JsonObject]:
    """The root runs, each with its delegates, recursively."""
    branches: dict[str, list[JsonObject]] = {}
    roots: list[JsonObject] = []
    for run in runs:
        node: JsonObject = {
            "run_id": run.run_id,
            "expert": run.expert.key,
            "status": run.status,
            "step": run.step_number,
            "checkpoint_id": run.id,
            "usage": run.usage.model_dump(by_alias=False),
            "delegates": list[JsonObject](),
        }
        branches[run.run_id] = node["delegates"]
        # The delegating run comes first.
        parent = run.delegated_by and branches.get(run.delegated_by.run_id)
        (roots if parent is None else parent).append(node)
    return roots


@dataclass(frozen=True, slots=True)
class _Page:
    """Rendered entries of a list; `next_index` is the number of the entry after them."""

    lines: tuple[str, ...]
    next_index: int
    next_uri: str | None


def events_page(events: RecordedEvents, uri: ResourceUri, limit: int) -> Document:
    """Events in the form of the event stream, one a line."""
    steps = steps_of(events)

    def line(entry: RecordedEvent) -> str:
        event, checkpoint = entry
        return _event_line(to_wire(event, checkpoint, steps.get(event.id)), uri, checkpoint)

    page = _fit_page(events, uri, limit, line)
    return Document(
        text="".join(page.lines),
        mime_type=MIME_JSON_LINES,
        is_immutable=page.next_uri is not None,
        next_uri=page.next_uri,
    )


def checkpoints_page(events: RecordedEvents, uri: ResourceUri, limit: int) -> Document:
    """The checkpoints of a job, without the states themselves."""

    def line(entry: RecordedEvent) -> str:
        event, checkpoint = entry
        return to_json_line(
            {
                "checkpoint_id": checkpoint.id,
                "run_id": checkpoint.run_id,
                "expert": checkpoint.expert.key,
                "event": event.type,
                "status": checkpoint.status,
                "step": checkpoint.step_number,
                "can_be_continued": checkpoint.delegated_by is None,
                "uri": _checkpoint_uri(uri, checkpoint),
            }
        )

    page = _fit_page(events, uri, limit, line)
    entries = ",\n".join(f"  {each.strip()}" for each in page.lines)
    fields = {"job_id": uri.path_params["job_id"], **_next_link(page.next_uri)}
    head = to_pretty_json(fields).removesuffix("\n}")
    return Document(
        text=f'{head},\n  "checkpoints": [\n{entries}\n  ]\n}}',
        is_immutable=page.next_uri is not None,
        next_uri=page.next_uri,
    )


def checkpoint_page(checkpoint: Checkpoint, uri: ResourceUri) -> Document:
    """The state of a run, with as many messages as fit on a page."""
    wire = checkpoint_to_wire(checkpoint)
    page = _fit_page(wire["messages"], uri, len(wire["messages"]), to_json_line)
    messages = wire["messages"][page.next_index - len(page.lines) : page.next_index]
    fields = {**wire, "messages": messages, **_next_link(page.next_uri)}
    return Document(text=to_pretty_json(fields), is_immutable=True, next_uri=page.next_uri)


def jobs_page(jobs: Sequence[Job], offset: int, limit: int) -> Document:
    """Jobs, newest first; `jobs` has one more than `limit` if there are more."""
    next_page = {"offset": offset + limit, "limit": limit}
    next_uri = ResourceUri("jobs", query_params=next_page).text if len(jobs) > limit else None
    fields = {"jobs": [job_fields(job) for job in jobs[:limit]], **_next_link(next_uri)}
    return Document(text=to_pretty_json(fields), next_uri=next_uri)


def _next_link(next_uri: str | None) -> JsonObject:
    return {"next": next_uri} if next_uri else {}


def _checkpoint_uri(uri: ResourceUri, checkpoint: Checkpoint) -> str:
    path_params = {**uri.path_params, "checkpoint_id": checkpoint.id}
    return ResourceUri("checkpoint", path_params).text


def _fit_page(
    entries: Sequence[Any], uri: ResourceUri, limit: int, line_of: Callable[[Any], str]
) -> _Page:
    """Render as many entries as fit, but at least one."""
    after = uri.query_params.get("after", 0)
    lines: list[str] = []
    remaining_bytes = MAX_PAGE_BYTES
    for entry in entries[after : after + limit]:
        line = line_of(entry)
        remaining_bytes -= utf8_size(line)
        if lines and remaining_bytes < 0:
            break
        lines.append(line)
    next_index = min(after, len(entries)) + len(lines)
    if next_index >= len(entries):
        return _Page(tuple(lines), next_index, next_uri=None)
    next_page = replace(uri, query_params={**uri.query_params, "after": next_index})
    return _Page(tuple(lines), next_index, next_page.text)


def _event_line(wire: Mapping[str, Any], uri: ResourceUri, checkpoint: Checkpoint) -> str:
    """An event on one line.

    If that is longer than a page, it comes without the whole text of a shortened result; if that
    does not help, only its stamp and a link.
    """
    line = to_json_line(wire)
    if utf8_size(line) <= MAX_PAGE_BYTES:
        return line
    omitted = {"bytes": utf8_size(line), "checkpoint": _checkpoint_uri(uri, checkpoint)}
    if "wholeText" in wire:
        shortened = {key: value for key, value in wire.items() if key != "wholeText"}
        line = to_json_line({**shortened, "omitted": omitted})
        if utf8_size(line) <= MAX_PAGE_BYTES:
            return line
    stamp = {key: wire[key] for key in STAMP_FIELDS if key in wire}
    return to_json_line({**stamp, "omitted": omitted})
