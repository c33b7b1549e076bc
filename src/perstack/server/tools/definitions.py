"""Definitions of the published tools, made from the expert definitions alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mcp_types import Tool, ToolAnnotations

from perstack.definition.model import Definitions, Expert, InteractiveSkill, McpStdioSkill, Skill
from perstack.definition.references import BASE_SKILL, DEFAULT_TOOL_NAMES, strip_version
from perstack.server.caller import Caller
from perstack.server.tools import schemas
from perstack.server.tools.icons import icon_of
from perstack.tool_names import tool_name, with_hash_suffix

Effect = Literal["reads", "adds", "destroys"]
PublishMode = Literal["coordinators", "all"]
"""Which experts are tools."""

EFFECT_OF_BASE_TOOL: dict[str, Effect] = {
    "attemptCompletion": "reads",
    "todo": "reads",
    "clearTodo": "reads",
    "readToolResult": "reads",
    "exec": "destroys",
    "globFiles": "reads",
    "grepFiles": "reads",
    "readTextFile": "reads",
    "getFileInfo": "reads",
    "readImageFile": "reads",
    "readPdfFile": "reads",
    "writeTextFile": "destroys",
    "appendTextFile": "adds",
    "editTextFile": "destroys",
    "moveFile": "destroys",
    "deleteFile": "destroys",
    "listDirectory": "reads",
    "createDirectory": "adds",
    "deleteDirectory": "destroys",
    "healthCheck": "reads",
}
"""Kept here so that `tools/list` does not import the built-in tools."""

READ_ONLY_PROVIDER_TOOLS = frozenset(
    {
        "webSearch",
        "webSearchPreview",
        "webFetch",
        "googleSearch",
        "enterpriseWebSearch",
        "googleMaps",
        "urlContext",
        "fileSearch",
    }
)


@dataclass(frozen=True, slots=True)
class ToolCapabilities:
    """The most that an expert can do, including its delegates."""

    is_read_only: bool = True
    is_destructive: bool = False
    is_open_world: bool = False

    def __or__(self, other: "ToolCapabilities") -> "ToolCapabilities":
        return ToolCapabilities(
            is_read_only=self.is_read_only and other.is_read_only,
            is_destructive=self.is_destructive or other.is_destructive,
            is_open_world=self.is_open_world or other.is_open_world,
        )


NO_CAPABILITIES = ToolCapabilities()
ALL_CAPABILITIES = ToolCapabilities(is_read_only=False, is_destructive=True, is_open_world=True)


def capabilities(expert: Expert, definitions: Definitions) -> ToolCapabilities:
    """The capabilities of an expert and all its delegates."""
    total = NO_CAPABILITIES
    seen = {expert.key}
    pending = [expert]
    while pending:
        current = pending.pop()
        total |= _own_capabilities(current, definitions)
        for key in current.delegates:
            delegate = definitions.experts.get(key)
            if delegate is None:
                return ALL_CAPABILITIES
            if key not in seen:
                seen.add(key)
                pending.append(delegate)
    return total


def declared_capabilities(expert: Expert, derived: ToolCapabilities) -> ToolCapabilities:
    """The derived capabilities, overridden by the unchecked hints of the definition."""
    declared = expert.tool
    is_destructive = derived.is_destructive and declared.read_only_hint is not True
    return ToolCapabilities(
        is_read_only=_hint_or_default(declared.read_only_hint, derived.is_read_only),
        is_destructive=_hint_or_default(declared.destructive_hint, is_destructive),
        is_open_world=_hint_or_default(declared.open_world_hint, derived.is_open_world),
    )


def _hint_or_default(hint: bool | None, default: bool) -> bool:  # noqa: FBT001 - two readings of one fact
    return default if hint is None else hint


def _own_capabilities(expert: Expert, definitions: Definitions) -> ToolCapabilities:
    total = NO_CAPABILITIES
    for name, skill in expert.skills.items():
        total |= _skill_capabilities(name, skill, definitions)
    if any(verification.command for verification in expert.verifications):
        total |= _base_tool_capabilities("exec")
    if expert.provider_skills:
        total |= ALL_CAPABILITIES
    for tool in expert.provider_tools:
        total |= (
            ToolCapabilities(is_open_world=True)
            if tool in READ_ONLY_PROVIDER_TOOLS
            else ALL_CAPABILITIES
        )
    return total


def _skill_capabilities(name: str, skill: Skill, definitions: Definitions) -> ToolCapabilities:
    if isinstance(skill, InteractiveSkill):
        return NO_CAPABILITIES
    is_base_skill = isinstance(skill, McpStdioSkill) and name == BASE_SKILL and skill.is_built_in
    if not is_base_skill or definitions.perstack_base_skill_command is not None:
        return ALL_CAPABILITIES
    total = NO_CAPABILITIES
    for tool in skill.pick or DEFAULT_TOOL_NAMES:
        if tool not in skill.omit and tool in EFFECT_OF_BASE_TOOL:
            total |= _base_tool_capabilities(tool)
    return total


def _base_tool_capabilities(tool: str) -> ToolCapabilities:
    effect = EFFECT_OF_BASE_TOOL[tool]
    return ToolCapabilities(
        is_read_only=effect == "reads",
        is_destructive=effect == "destroys",
        is_open_world=tool == "exec",
    )


JOB_TOOL, JOBS_TOOL, CANCEL_TOOL = "perstack_job", "perstack_jobs", "perstack_cancel"
REVIEW_PROMPT = "perstack_review_job"
"""The name of a prompt; prompts of experts have the names of their tools."""

RESULT_META = {"anthropic/maxResultSizeChars": 200_000}
"""Claude Code replaces longer results by the path of a file; this is its maximum."""

_USAGE_HINT = (
    'Runs an autonomous expert on its own workspace. If status is "running", wait for the result '
    'with {collect}. If it is "needs_input", call this tool again with the job_id and the answer '
    "as query. Any job can be continued the same way, with a follow-up as query."
)
_SERVER_INSTRUCTIONS = (
    "Each tool {experts} is an expert: an autonomous agent that works on the query alone, without "
    "your conversation, so put everything it needs into the query. Work is never lost: every "
    "result has a job_id, and a job that is still running, waits for an answer or was stopped "
    "goes on when the same tool is called with it."
)
_JOB_TOOLS_INSTRUCTIONS = (
    f" {JOB_TOOL} waits for a job, {JOBS_TOOL} lists them, {CANCEL_TOOL} stops one."
)


def instructions(*, has_job_tools: bool) -> str:
    """The instructions of the server for the model of a client."""
    if has_job_tools:
        return (
            _SERVER_INSTRUCTIONS.format(experts="without the prefix perstack_")
            + _JOB_TOOLS_INSTRUCTIONS
        )
    return _SERVER_INSTRUCTIONS.format(experts="of this server")


def published_experts(definitions: Definitions, publish: PublishMode) -> dict[str, Expert]:
    """The published experts by tool name, in the order of the file."""
    experts = (
        definitions.coordinators() if publish == "coordinators" else definitions.experts.values()
    )
    experts_by_name: dict[str, Expert] = {}
    for expert in experts:
        name = tool_name(strip_version(expert.key))
        experts_by_name[with_hash_suffix(name, expert.key) if name in experts_by_name else name] = (
            expert
        )
    return experts_by_name


def expert_tools(
    experts: Mapping[str, Expert],
    definitions: Definitions,
    default_wait_seconds: float | None,
    *,
    has_job_tools: bool,
) -> list[Tool]:
    by_expert_tool = "this tool, the job_id and an empty query"
    collect = f"{JOB_TOOL} and the job_id" if has_job_tools else by_expert_tool
    usage_hint = _USAGE_HINT.format(collect=collect)
    tools: list[Tool] = []
    for name, expert in experts.items():
        declared = declared_capabilities(expert, capabilities(expert, definitions))
        purpose = expert.description or f"Asks the expert {expert.key}."
        tool = Tool(
            name=name,
            title=expert.tool.title or expert.key,
            description=f"{purpose.strip()}\n\n{usage_hint}",
            icons=[icon_of(expert)],
            input_schema=schemas.expert_input(default_wait_seconds, expert.tool.input_schema),
            output_schema=schemas.expert_output(expert.tool.output_schema),
            annotations=ToolAnnotations(
                read_only_hint=declared.is_read_only,
                destructive_hint=declared.is_destructive,
                idempotent_hint=False,
                open_world_hint=declared.is_open_world,
            ),
            _meta={
                "perstack/expert": expert.key,
                "perstack/version": expert.version,
                **RESULT_META,
            },
        )
        tools.append(tool)
    return tools


def job_tools(default_wait_seconds: float | None) -> list[Tool]:
    """The tools that manage jobs."""
    return [
        Tool(
            name=JOB_TOOL,
            title="Wait for a job",
            description="Waits for a job of an expert and returns its result, or its status if it "
            "is not done in time. Looking changes nothing, and can be repeated.",
            input_schema=schemas.job_input(default_wait_seconds),
            output_schema=schemas.RESULT_OUTPUT,
            annotations=_job_tool_annotations(read_only=True),
            _meta=RESULT_META,
        ),
        Tool(
            name=JOBS_TOOL,
            title="List jobs",
            description="Lists the jobs of the experts, newest first, with their status.",
            input_schema=schemas.JOBS_INPUT,
            output_schema=schemas.JOBS_OUTPUT,
            annotations=_job_tool_annotations(read_only=True),
        ),
        Tool(
            name=CANCEL_TOOL,
            title="Stop a job",
            description="Stops a job at once. What was done stays done, and the job can be "
            "continued with its job_id.",
            input_schema=schemas.CANCEL_INPUT,
            output_schema=schemas.RESULT_OUTPUT,
            annotations=_job_tool_annotations(read_only=False),
            _meta=RESULT_META,
        ),
    ]


def _job_tool_annotations(*, read_only: bool) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=read_only,
        destructive_hint=False,
        idempotent_hint=True,
        open_world_hint=False,
    )


def job_tool_names(caller: Caller) -> frozenset[str]:
    """The names of the tools that manage jobs and that the caller may use."""
    read_tools = {JOB_TOOL, JOBS_TOOL} if caller.may_read_jobs else set[str]()
    cancel_tools = {CANCEL_TOOL} if caller.may_cancel_jobs else set[str]()
    return frozenset(read_tools | cancel_tools)
