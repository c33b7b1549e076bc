"""The tools that a client sees, made from the definitions alone."""

from collections.abc import Mapping

from mcp_types import Tool, ToolAnnotations

from perstack.definition.model import Definitions, Expert
from perstack.definition.names import name_of
from perstack.definition.tool_names import distinct, tool_name
from perstack.server.calls import schemas
from perstack.server.calls.annotations import claimed, reach
from perstack.server.calls.icons import icon_of
from perstack.server.face import Publish

JOB, JOBS, CANCEL = "perstack_job", "perstack_jobs", "perstack_cancel"
REVIEW = "perstack_review_job"
"""A prompt; the prompts of experts are named as their tools are."""
RESERVED = frozenset({JOB, JOBS, CANCEL, REVIEW})

RESULT_META = {"anthropic/maxResultSizeChars": 200_000}
"""Else Claude Code replaces a long result by the path of a file."""

_EXPERT = (
    'Runs an autonomous expert on its own workspace. If status is "running", wait for the result '
    'with {collect}. If it is "needs_input", call this tool again with the job_id and the answer '
    "as query. Any job can be continued the same way, with a follow-up as query."
)
_SERVER = (
    "Each tool {experts} is an expert: an autonomous agent that works on the query alone, without "
    "your conversation, so put everything it needs into the query. Work is never lost: every "
    "result has a job_id, and a job that is still running, waits for an answer or was stopped "
    "goes on when the same tool is called with it."
)
_JOBS = f" {JOB} waits for a job, {JOBS} lists them, {CANCEL} stops one."


def instructions(*, has_job_tools: bool) -> str:
    """What a client tells its model about the whole server."""
    if has_job_tools:
        return _SERVER.format(experts="without the prefix perstack_") + _JOBS
    return _SERVER.format(experts="of this server")


def _how_to_use(*, has_job_tools: bool) -> str:
    same = "this tool, the job_id and an empty query"
    return _EXPERT.format(collect=f"{JOB} and the job_id" if has_job_tools else same)


def published(definitions: Definitions, publish: Publish) -> dict[str, Expert]:
    """The experts that are tools, by tool name, in the order of the file."""
    experts = (
        definitions.coordinators() if publish == "coordinators" else definitions.experts.values()
    )
    names: dict[str, Expert] = {}
    for expert in experts:
        name = tool_name(name_of(expert.key))
        names[distinct(name, expert.key) if name in RESERVED or name in names else name] = expert
    return names


def expert_tools(
    experts: Mapping[str, Expert],
    definitions: Definitions,
    default_wait_seconds: float | None,
    *,
    has_job_tools: bool,
) -> list[Tool]:
    """One tool for each expert."""
    how = _how_to_use(has_job_tools=has_job_tools)
    return [
        _expert_tool(name, expert, definitions, how, default_wait_seconds)
        for name, expert in experts.items()
    ]


def _expert_tool(
    name: str,
    expert: Expert,
    definitions: Definitions,
    how: str,
    default_wait_seconds: float | None,
) -> Tool:
    can = claimed(expert, reach(expert, definitions))
    purpose = expert.description or f"Asks the expert {expert.key}."
    return Tool(
        name=name,
        title=expert.tool.title or expert.key,
        description=f"{purpose.strip()}\n\n{how}",
        icons=[icon_of(expert)],
        input_schema=schemas.expert_input(default_wait_seconds, expert.tool.input_schema),
        output_schema=schemas.expert_output(expert.tool.output_schema),
        annotations=ToolAnnotations(
            read_only_hint=can.is_read_only,
            destructive_hint=can.is_destructive,
            idempotent_hint=False,
            open_world_hint=can.is_open_world,
        ),
        _meta={
            "perstack/expert": expert.key,
            "perstack/version": expert.version,
            **RESULT_META,
        },
    )


def job_tools(default_wait_seconds: float | None) -> list[Tool]:
    """The tools that look after jobs."""
    return [
        Tool(
            name=JOB,
            title="Wait for a job",
            description="Waits for a job of an expert and returns its result, or its status if it "
            "is not done in time. Looking changes nothing, and can be repeated.",
            input_schema=schemas.job_input(default_wait_seconds),
            output_schema=schemas.RESULT_OUTPUT,
            annotations=_looking_after(read_only=True),
            _meta=RESULT_META,
        ),
        Tool(
            name=JOBS,
            title="List jobs",
            description="Lists the jobs of the experts, newest first, with their status.",
            input_schema=schemas.JOBS_INPUT,
            output_schema=schemas.JOBS_OUTPUT,
            annotations=_looking_after(read_only=True),
        ),
        Tool(
            name=CANCEL,
            title="Stop a job",
            description="Stops a job at once. What was done stays done, and the job can be "
            "continued with its job_id.",
            input_schema=schemas.CANCEL_INPUT,
            output_schema=schemas.RESULT_OUTPUT,
            annotations=_looking_after(read_only=False),
            _meta=RESULT_META,
        ),
    ]


def _looking_after(*, read_only: bool) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=read_only,
        destructive_hint=False,
        idempotent_hint=True,
        open_world_hint=False,
    )
