"""A job as the result of a call.

Some clients show their model the text of a result only, others the structured content only; so the
answer, the status and the job id stand in both.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mcp_types import Annotations, CallToolResult, ContentBlock, ResourceLink, TextContent

from perstack.core.answers import fields_of
from perstack.core.checkpoint import Job, JobStatus
from perstack.core.questions import Question
from perstack.definition.names import name_of
from perstack.definition.tool_names import tool_name
from perstack.errors import PerstackError
from perstack.jobs import JobView
from perstack.server.calls.evidence import evidence, evidence_line
from perstack.server.calls.excerpts import MAX_ERROR_CHARACTERS, USUAL, Room, excerpt
from perstack.server.calls.tools import JOB
from perstack.server.reading.addresses import of_job
from perstack.server.reading.documents import JSON, MARKDOWN, PLAIN, moment, size, sound

MAX_QUERY_SHOWN = 200
MAX_ARGUMENTS_SHOWN = 10_000
REPEATED_SHARE = 0.2
"""Of the room, for a text that the structured content has as a value too."""
MIN_FIELDS_TOLD = 2

STATUS_OF: dict[JobStatus, str] = {
    "completed": "completed",
    "running": "running",
    "stoppedByInteractiveTool": "needs_input",
    "stoppedByMaxSteps": "max_steps",
    "stoppedByError": "error",
    "stoppedByCancellation": "cancelled",
    "interrupted": "interrupted",
}

_GO_ON = "call {tool} with this job_id and an empty query."
NEXT = {
    "completed": "",
    "running": "The job goes on. To wait for its result, {collect}.",
    "needs_input": "Call {tool} again with this job_id and the answer as query.",
    "max_steps": f"The steps are used up. To go on, {_GO_ON}",
    "error": f"To try again from there, {_GO_ON}",
    "cancelled": f"To go on, {_GO_ON}",
    "interrupted": f"The process that worked on it has ended. To go on, {_GO_ON}",
}
"""What to do next, by status; `tool` is the tool of the job's expert."""
_COLLECT = f"call {JOB} with this job_id"


def job_result(
    view: JobView, *, offset: int = 0, has_job_tools: bool = True, room: Room = USUAL
) -> CallToolResult:
    """How a job stands.

    Args:
        view: The job.
        offset: Where to begin in its text, in characters.
        has_job_tools: Whether the caller has the tools that look after jobs.
        room: How much text the caller's client takes.
    """
    status = status_of(view)
    is_error = status == "error"
    whole = _text_of(view)
    if is_error:
        room = replace(room, characters=min(room.characters, MAX_ERROR_CHARACTERS))
    part = excerpt(whole, view.job.id, room=room, offset=offset, has_job_tools=has_job_tools)
    expert_key = view.job.coordinator_expert_key
    tool = tool_name(name_of(expert_key))
    by_itself = f"call {tool} with this job_id and an empty query"
    collect = _COLLECT if has_job_tools else by_itself
    following = NEXT[status].format(tool=tool, collect=collect) + _form_in_words(view)
    structured: dict[str, Any] = {
        "job_id": view.job.id,
        "run_id": view.checkpoint.run_id,
        "checkpoint_id": view.checkpoint.id,
        "expert": expert_key,
        "status": status,
        "text": part.text,
        "steps": view.job.total_steps,
        "usage": view.usage.model_dump(by_alias=False),
    }
    is_answer = view.job.status == "completed"
    if is_answer and view.checkpoint.is_typed and part.is_whole:
        structured["output"] = view.output
        if size(part.text) > room.size * REPEATED_SHARE:
            structured["text"] = "The answer is the output."
    if following:
        structured["next"] = following
    if view.questions:
        structured["question"] = _question(view.questions[0])
    if view.verifications:
        structured["verifications"] = evidence(view)
    if view.trace_id is not None:
        structured["trace_id"] = view.trace_id
    said_below = (f"status: {status} · job_id: {view.job.id}", evidence_line(view), following)
    footer = "\n".join(line for line in said_below if line).strip()
    content: list[ContentBlock] = [_block(text) for text in (part.text, footer) if text]
    if is_answer or not part.is_whole:
        content.append(_link(view, whole))
    return CallToolResult(content=content, structured_content=structured, is_error=is_error)


def status_of(view: JobView) -> str:
    """The status of a job as callers read it."""
    # A job is still running while a skill's server waits for the user in the middle of a call.
    return "needs_input" if view.questions else STATUS_OF[view.job.status]


def jobs_result(jobs: Sequence[Job]) -> CallToolResult:
    """A list of jobs."""
    entries = [
        {
            "job_id": job.id,
            "expert": job.coordinator_expert_key,
            "status": STATUS_OF[job.status],
            "query": sound(job.query[:MAX_QUERY_SHOWN]),
            "steps": job.total_steps,
            "started_at": moment(job.started_at),
            "updated_at": moment(job.updated_at),
        }
        for job in jobs
    ]
    lines = [
        " · ".join(str(entry[key]) for key in ("job_id", "status", "expert", "query"))
        for entry in entries
    ]
    return CallToolResult(
        content=[_block("\n".join(lines) or "There are no such jobs.")],
        structured_content={"jobs": entries},
    )


def error_result(error: PerstackError, job_id: str | None = None) -> CallToolResult:
    """Something that the caller can read and repair."""
    text = sound(str(error))[:MAX_ERROR_CHARACTERS]
    footer = f"status: error · job_id: {job_id}" if job_id is not None else ""
    return CallToolResult(content=[_block(part) for part in (text, footer) if part], is_error=True)


def form_of_text(view: JobView) -> str:
    """The form of the text of a job."""
    if view.job.status != "completed":
        return PLAIN
    return JSON if view.checkpoint.is_typed else MARKDOWN


def _link(view: JobView, text: str) -> ResourceLink:
    """Where the whole text of a job is; for people, as models have it in the result."""
    return ResourceLink(
        type="resource_link",
        name=f"result {view.job.id}",
        title="The whole result",
        uri=of_job("result", view.job.id).uri,
        mime_type=form_of_text(view),
        size=size(sound(text)),
        annotations=Annotations(audience=["user"], priority=0.2),
    )


def _block(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _text_of(view: JobView) -> str:
    if not view.questions:
        return view.text
    asked = [question.message for question in view.questions]
    return "\n".join([view.text, *asked] if view.text else asked)


def _form_in_words(view: JobView) -> str:
    """How to answer in text what is more than one field."""
    schema = view.questions[0].schema if view.questions else None
    if schema is None or len(schema["properties"]) < MIN_FIELDS_TOLD:
        return ""
    return f" The answer is a JSON object with the fields: {sound(fields_of(schema))}."


def _question(question: Question) -> dict[str, Any]:
    arguments = json.dumps(question.arguments, ensure_ascii=False)
    fits = len(arguments) <= MAX_ARGUMENTS_SHOWN
    schema = json.dumps(question.schema, ensure_ascii=False)
    return {
        "tool_call_id": question.id,
        "tool_name": sound(question.tool_name),
        "message": sound(question.message[:MAX_ARGUMENTS_SHOWN]),
        "arguments": json.loads(sound(arguments)) if fits else {},
        "schema": json.loads(sound(schema)) if len(schema) <= MAX_ARGUMENTS_SHOWN else {},
    }
