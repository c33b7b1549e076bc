"""Results of tool calls.

Some clients show their model only the text of a result, others only the structured content; so both
have the answer, the status and the job id.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    Annotations,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from perstack.core.checkpoint import Job
from perstack.core.elicitation import Question, question_text
from perstack.core.messages import ImageInlinePart, media_note
from perstack.definition.references import strip_version
from perstack.errors import PerstackError, is_quotable_name
from perstack.jobs import JobView
from perstack.server.caller import TASKS_EXTENSION, Caller
from perstack.server.resources.uris import job_uri
from perstack.server.summaries import (
    PUBLIC_STATUS,
    iso_timestamp,
    public_status,
    text_mime_type,
    utf8_size,
    verification_line,
    verification_summary,
)
from perstack.server.tools.definitions import JOB_TOOL
from perstack.server.tools.truncation import (
    DEFAULT_BUDGET,
    MAX_ERROR_CHARACTERS,
    OutputBudget,
    truncate_text,
)
from perstack.text import replace_surrogates
from perstack.tool_names import tool_name


def strip_unsupported(caller: Caller, result: CallToolResult) -> CallToolResult:
    """Remove resource links that the protocol version does not have or the caller may not read."""
    if caller.has_links and caller.may_read_jobs:
        return result
    plain = [block for block in result.content if not isinstance(block, ResourceLink)]
    return result.model_copy(update={"content": plain})


def quote_name(name: str) -> str:
    """The name in quotes with a space before it, or nothing if it cannot be a name."""
    return f" {name!r}" if is_quotable_name(name) else ""


def tasks_unsupported(subject: str) -> MCPError:
    """The error for clients without tasks; `subject` begins its message."""
    return MCPError(
        code=MISSING_REQUIRED_CLIENT_CAPABILITY,
        message=f"{subject} needs a client that declares {TASKS_EXTENSION}.",
        data={"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}},
    )


MAX_QUERY_SHOWN = 200
MAX_ARGUMENTS_SHOWN = 10_000
MAX_SOURCES_BYTES = 1500
MAX_TITLE_SHOWN = 100
MAX_MEDIA_CHARACTERS = 750_000
"""Of images and files of a result, in base64: some clients refuse results of above a megabyte."""

MAX_DUPLICATED_SHARE = 0.2
"""Share of the budget that a text may have which the structured content repeats as a value."""

_RESUME_CALL = "call {tool} with this job_id and an empty query."
NEXT_STEPS = {
    "completed": "",
    "running": "The job goes on. To wait for its result, {collect}.",
    "needs_input": "Call {tool} again with this job_id and the answer as query.",
    "max_steps": f"The steps are used up. To go on, {_RESUME_CALL}",
    "budget_exceeded": f"{{exhausted}} To go on with a new budget, {_RESUME_CALL}",
    "error": f"To try again from there, {_RESUME_CALL}",
    "cancelled": f"To go on, {_RESUME_CALL}",
    "interrupted": f"The process that worked on it has ended. To go on, {_RESUME_CALL}",
}
"""The next step by status; `tool` is the tool of the expert."""
_WAIT_CALL = f"call {JOB_TOOL} with this job_id"


def job_result(
    view: JobView,
    *,
    offset: int = 0,
    has_job_tools: bool = True,
    budget: OutputBudget = DEFAULT_BUDGET,
) -> CallToolResult:
    """The result of a call for a job.

    Args:
        view: The job.
        offset: Where to begin in its text, in characters.
        has_job_tools: Whether the caller has the tools that manage jobs.
        budget: Maximum size of the text for the client.
    """
    status = public_status(view)
    is_error = status == "error"
    full_text = _full_text(view)
    if is_error:
        budget = replace(budget, characters=min(budget.characters, MAX_ERROR_CHARACTERS))
    text, is_complete = truncate_text(
        full_text, view.job.id, budget=budget, offset=offset, has_job_tools=has_job_tools
    )
    next_step = _next_step(view, has_job_tools=has_job_tools)
    sources = _sources(view) if not offset else []
    structured = _result_fields(view, text, budget, is_complete=is_complete)
    optional = {"next": next_step, "sources": sources}
    structured |= {name: value for name, value in optional.items() if value}
    footer_lines = (f"status: {status} · job_id: {view.job.id}", verification_line(view), next_step)
    footer = "\n".join(line for line in footer_lines if line).strip()
    lines = "\n".join(["Sources:", *map(_source_line, sources)] if sources else [])
    content: list[ContentBlock] = [_text_block(part) for part in (text, lines, footer) if part]
    is_completed = view.job.status == "completed"
    if is_completed and not offset:
        content += _media_blocks(view)
    if is_completed or not is_complete:
        content.append(_result_link(view, full_text))
    return CallToolResult(content=content, structured_content=structured, is_error=is_error)


def _result_fields(
    view: JobView, text: str, budget: OutputBudget, *, is_complete: bool
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "job_id": view.job.id,
        "run_id": view.checkpoint.run_id,
        "checkpoint_id": view.checkpoint.id,
        "expert": view.job.coordinator_expert_key,
        "status": public_status(view),
        "text": text,
        "steps": view.job.total_steps,
        "usage": view.usage.model_dump(by_alias=False),
    }
    if view.job.status == "completed" and view.checkpoint.is_typed and is_complete:
        fields["output"] = view.output
        if utf8_size(text) > budget.utf8_bytes * MAX_DUPLICATED_SHARE:
            fields["text"] = "The answer is the output."
    if view.questions:
        fields["question"] = _question_payload(view.questions[0])
    if view.verifications:
        fields["verifications"] = verification_summary(view)
    if view.trace_id is not None:
        fields["trace_id"] = view.trace_id
    return fields


def _next_step(view: JobView, *, has_job_tools: bool) -> str:
    """What the caller can do now; empty where nothing is left to do."""
    tool = tool_name(strip_version(view.job.coordinator_expert_key))
    resume_call = f"call {tool} with this job_id and an empty query"
    exhausted = view.checkpoint.exhausted
    return NEXT_STEPS[public_status(view)].format(
        tool=tool,
        collect=_WAIT_CALL if has_job_tools else resume_call,
        exhausted=exhausted.message if exhausted else "",
    )


def jobs_result(jobs: Sequence[Job]) -> CallToolResult:
    entries = [
        {
            "job_id": job.id,
            "expert": job.coordinator_expert_key,
            "status": PUBLIC_STATUS[job.status],
            "query": replace_surrogates(job.query[:MAX_QUERY_SHOWN]),
            "steps": job.total_steps,
            "started_at": iso_timestamp(job.started_at),
            "updated_at": iso_timestamp(job.updated_at),
        }
        for job in jobs
    ]
    lines = [
        " · ".join(str(entry[key]) for key in ("job_id", "status", "expert", "query"))
        for entry in entries
    ]
    return CallToolResult(
        content=[_text_block("\n".join(lines) or "There are no such jobs.")],
        structured_content={"jobs": entries},
    )


def error_result(error: PerstackError, job_id: str | None = None) -> CallToolResult:
    """An error as a result, which the caller's model can read and react to."""
    text = replace_surrogates(str(error))[:MAX_ERROR_CHARACTERS]
    footer = f"status: error · job_id: {job_id}" if job_id is not None else ""
    return CallToolResult(
        content=[_text_block(part) for part in (text, footer) if part], is_error=True
    )


def _result_link(view: JobView, text: str) -> ResourceLink:
    """A link for people; models have the text in the result."""
    return ResourceLink(
        type="resource_link",
        name=f"result {view.job.id}",
        title="The whole result",
        uri=job_uri("result", view.job.id).text,
        mime_type=text_mime_type(view),
        size=utf8_size(replace_surrogates(text)),
        annotations=Annotations(audience=["user"], priority=0.2),
    )


def _sources(view: JobView) -> list[dict[str, str]]:
    """The pages that an answer cites, each once, as far as the lines around a text may grow."""
    citations = view.checkpoint.citations if view.job.status == "completed" else ()
    titles = {each.url: each.title or "" for each in citations if each.url}
    sources: list[dict[str, str]] = []
    available = MAX_SOURCES_BYTES
    for url, title in titles.items():
        short_title = replace_surrogates(" ".join(title.split()))[:MAX_TITLE_SHOWN]
        source = {"url": replace_surrogates(url), "title": short_title}
        available -= utf8_size(_source_line(source))
        if available >= 0:
            sources.append(source)
    return sources


def _source_line(source: dict[str, str]) -> str:
    return f"- {source['title']}: {source['url']}" if source["title"] else f"- {source['url']}"


def _media_blocks(view: JobView) -> list[ContentBlock]:
    """Images and files that the model made, and a note for each that would be too much."""
    blocks: list[ContentBlock] = []
    available = MAX_MEDIA_CHARACTERS
    for number, part in enumerate(view.checkpoint.media, start=1):
        if len(part.encoded_data) > available:
            blocks.append(_text_block(media_note(part)))
            continue
        available -= len(part.encoded_data)
        data, mime_type = part.encoded_data, part.mime_type
        if isinstance(part, ImageInlinePart):
            blocks.append(ImageContent(type="image", data=data, mime_type=mime_type))
        else:
            uri = f"{job_uri('result', view.job.id).text}#file-{number}"
            resource = BlobResourceContents(uri=uri, mime_type=mime_type, blob=data)
            blocks.append(EmbeddedResource(type="resource", resource=resource))
    return blocks


def _text_block(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _full_text(view: JobView) -> str:
    if not view.questions:
        return view.text
    messages = [question_text(question) for question in view.questions]
    return "\n".join([view.text, *messages] if view.text else messages)


def _question_payload(question: Question) -> dict[str, Any]:
    arguments = json.dumps(question.arguments, ensure_ascii=False)
    fits = len(arguments) <= MAX_ARGUMENTS_SHOWN
    schema = json.dumps(question.schema, ensure_ascii=False)
    return {
        "tool_call_id": question.id,
        "tool_name": replace_surrogates(question.tool_name),
        "message": replace_surrogates(question.message[:MAX_ARGUMENTS_SHOWN]),
        "arguments": json.loads(replace_surrogates(arguments)) if fits else {},
        "schema": json.loads(replace_surrogates(schema))
        if len(schema) <= MAX_ARGUMENTS_SHOWN
        else {},
    }
