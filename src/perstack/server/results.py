"""A job as the result of a call.

Some clients show their model the text of a result only, others the structured content only; so the
answer, the status and the job id stand in both.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mcp_types import CallToolResult, TextContent

from perstack.core.checkpoint import Job, JobStatus
from perstack.core.questions import Question
from perstack.definition.names import name_of
from perstack.definition.tool_names import tool_name
from perstack.errors import PerstackError
from perstack.jobs import JobView
from perstack.server.tools import JOB

MAX_TEXT_CHARACTERS = 39_000
"""Of the answer itself; what stands around it keeps a text block below 40,000."""

MAX_QUERY_SHOWN = 200

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


def job_result(view: JobView, *, offset: int = 0, has_job_tools: bool = True) -> CallToolResult:
    """How a job stands.

    Args:
        view: The job.
        offset: Where to begin in its text, in characters.
        has_job_tools: Whether the caller has the tools that look after jobs.
    """
    status = STATUS_OF[view.job.status]
    text = _excerpt(_text_of(view), offset, has_job_tools=has_job_tools)
    expert_key = view.job.coordinator_expert_key
    tool = tool_name(name_of(expert_key))
    by_itself = f"call {tool} with this job_id and an empty query"
    collect = _COLLECT if has_job_tools else by_itself
    following = NEXT[status].format(tool=tool, collect=collect)
    structured: dict[str, Any] = {
        "job_id": view.job.id,
        "run_id": view.checkpoint.run_id,
        "checkpoint_id": view.checkpoint.id,
        "expert": expert_key,
        "status": status,
        "text": text,
        "steps": view.job.total_steps,
        "usage": view.usage.model_dump(by_alias=False),
    }
    if following:
        structured["next"] = following
    if view.questions:
        structured["question"] = _question(view.questions[0])
    if view.trace_id is not None:
        structured["trace_id"] = view.trace_id
    footer = f"status: {status} · job_id: {view.job.id}\n{following}".strip()
    return CallToolResult(
        content=[_block(part) for part in (text, footer) if part],
        structured_content=structured,
        is_error=status == "error",
    )


def jobs_result(jobs: Sequence[Job]) -> CallToolResult:
    """A list of jobs."""
    entries = [
        {
            "job_id": job.id,
            "expert": job.coordinator_expert_key,
            "status": STATUS_OF[job.status],
            "query": _sound(job.query[:MAX_QUERY_SHOWN]),
            "steps": job.total_steps,
            "started_at": _time(job.started_at),
            "updated_at": _time(job.updated_at),
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
    text = _sound(str(error))[:MAX_TEXT_CHARACTERS]
    footer = f"status: error · job_id: {job_id}" if job_id is not None else ""
    return CallToolResult(content=[_block(part) for part in (text, footer) if part], is_error=True)


def _block(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _text_of(view: JobView) -> str:
    if not view.questions:
        return view.text
    asked = [question.message for question in view.questions]
    return "\n".join([view.text, *asked] if view.text else asked)


def _question(question: Question) -> dict[str, Any]:
    arguments = json.dumps(question.arguments, ensure_ascii=False)
    fits = len(arguments) <= MAX_TEXT_CHARACTERS
    return {
        "tool_call_id": question.id,
        "tool_name": _sound(question.tool_name),
        "arguments": json.loads(_sound(arguments)) if fits else {},
    }


def _excerpt(text: str, offset: int, *, has_job_tools: bool) -> str:
    end = offset + MAX_TEXT_CHARACTERS
    piece = _sound(text[offset:end])
    if len(text) <= end:
        return piece
    rest = f" {JOB} with offset={end} returns what follows." if has_job_tools else ""
    return f"{piece}\n[Characters {offset:,} to {end:,} of {len(text):,}.{rest}]"


def _sound(text: str) -> str:
    # Half of a surrogate pair, which a model can produce, cannot be sent at all.
    return text.encode("utf-8", "replace").decode("utf-8")


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
