"""The tools of a run: those of its skills, one for each delegate, and questions to the user."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from perstack.core.messages import ToolCall, ToolCallPart, ToolKind
from perstack.core.tools import ToolDefinition
from perstack.core.typed_io import QUERY, argument_schema, completion_schema, render_query
from perstack.definition.model import Definitions, Expert
from perstack.definition.references import BASE_SKILL, strip_version
from perstack.definition.rules import delegate_tool_names
from perstack.models import TomlTable
from perstack.runtime.control import ATTEMPT_COMPLETION
from perstack.tool_names import tool_name, with_hash_suffix

_EXECUTION_ORDER: dict[ToolKind, int] = {"mcp": 0, "delegate": 1, "interactive": 2}
_QUERY_SCHEMA: TomlTable = {
    "type": "object",
    "additionalProperties": False,
    "required": ["query"],
    "properties": {
        "query": {
            "type": "string",
            "description": "The whole task. The expert sees nothing else of this conversation.",
        }
    },
}
_EXTRA_QUERY_SCHEMA: TomlTable = {
    "type": "string",
    "description": "What else the expert should know. It sees nothing else of this conversation.",
}


@dataclass(frozen=True, slots=True)
class Toolbox:
    """All tools of one run, by the names that the model uses.

    `delegates` maps a tool name to the key of its expert, `input_schemas` to the schema of the
    arguments that this expert declares, if it does.
    """

    definitions: tuple[ToolDefinition, ...]
    delegates: dict[str, str]
    input_schemas: dict[str, TomlTable] = field(default_factory=dict[str, TomlTable])

    def find(self, tool_name: str) -> ToolDefinition | None:
        """The tool with this name, if the run has it."""
        return next((tool for tool in self.definitions if tool.name == tool_name), None)

    def match(self, parts: tuple[ToolCallPart, ...]) -> tuple[ToolCall, ...]:
        """The calls with their tools, in order of execution.

        That is skills first, then delegates, then questions to the user. A call of an unknown tool
        belongs to no skill (`skill_name` is empty) and is answered with an error.
        """
        calls = [self._match(part) for part in parts]
        return tuple(sorted(calls, key=lambda call: _EXECUTION_ORDER[call.kind]))

    def _match(self, part: ToolCallPart) -> ToolCall:
        tool = self.find(part.tool_name)
        return ToolCall(
            id=part.tool_call_id,
            skill_name=tool.skill_name if tool else "",
            tool_name=part.tool_name,
            args=part.args,
            args_error=part.args_error,
            kind=tool.kind if tool else "mcp",
            answer_schema=tool.answer_schema if tool else None,
        )

    def rejection_reason(self, call: ToolCall) -> str | None:
        """Why a call cannot be executed, for the model; `None` if it can."""
        if self.find(call.tool_name) is None:
            names = ", ".join(tool.name for tool in self.definitions)
            return f"There is no tool {call.tool_name!r}. The tools are: {names}."
        if call.args_error is not None:
            return f"Arguments unreadable ({call.args_error}). Call again with a JSON object."
        return self._delegate_rejection(call) if call.kind == "delegate" else None

    def _delegate_rejection(self, call: ToolCall) -> str | None:
        input_schema = self.input_schemas.get(call.tool_name)
        if input_schema is None:
            has_query = _is_non_empty_text(call.args.get("query"))
            missing_query = (
                "A delegate needs the argument `query`: a text that holds the whole task."
            )
            return None if has_query else missing_query
        _, problems = _render_delegate_query(input_schema, call)
        return f"Bad arguments: {'; '.join(problems)}." if problems else None

    def delegate_query(self, call: ToolCall) -> str:
        """The query of a valid call of a delegate."""
        input_schema = self.input_schemas.get(call.tool_name)
        return (
            str(call.args["query"])
            if input_schema is None
            else _render_delegate_query(input_schema, call)[0]
        )


def _render_delegate_query(input_schema: TomlTable, call: ToolCall) -> tuple[str, tuple[str, ...]]:
    query = call.args.get(QUERY)
    if query is not None and not isinstance(query, str):
        return "", ("query must be a string",)
    inputs = {name: value for name, value in call.args.items() if name != QUERY}
    return render_query(input_schema, inputs, query or "")


def _is_non_empty_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def build_toolbox(
    expert: Expert,
    definitions: Definitions,
    skill_tools: tuple[ToolDefinition, ...],
    *,
    is_delegated: bool,
) -> Toolbox:
    """Put the tools of a run together.

    A delegated run has no user, so it gets no interactive tools.
    """
    own_tools = tuple(
        tool for tool in skill_tools if not (is_delegated and tool.kind == "interactive")
    )
    delegates = name_delegates(expert, definitions, skill_tools)
    input_schemas: dict[str, TomlTable] = {}
    tools: list[ToolDefinition] = [_with_output_schema(tool, expert) for tool in own_tools]
    for name, key in delegates.items():
        delegate = definitions.experts.get(key)
        if delegate is not None and delegate.tool.input_schema is not None:
            input_schemas[name] = delegate.tool.input_schema
        tools.append(_delegate_tool(name, key, delegate))
    return Toolbox(definitions=tuple(tools), delegates=delegates, input_schemas=input_schemas)


def name_delegates(
    expert: Expert, definitions: Definitions, skill_tools: Iterable[ToolDefinition]
) -> dict[str, str]:
    """The keys of an expert's delegates by the names of their tools, which no other tool has."""
    used_names = {tool.name for tool in skill_tools}
    delegates: dict[str, str] = {}
    for key, short_name in delegate_tool_names(expert, definitions).items():
        full_name = tool_name(strip_version(key))
        with_hash = with_hash_suffix(full_name, key)
        names = (short_name, full_name, with_hash)
        name = next((each for each in names if each not in used_names), with_hash)
        used_names.add(name)
        delegates[name] = key
    return delegates


def _with_output_schema(tool: ToolDefinition, expert: Expert) -> ToolDefinition:
    """A tool as this expert is shown it: it completes with what it declares to answer."""
    output_schema = expert.tool.output_schema
    if output_schema is None or (tool.skill_name, tool.name) != (BASE_SKILL, ATTEMPT_COMPLETION):
        return tool
    return replace(tool, input_schema=completion_schema(output_schema))


def _delegate_tool(name: str, key: str, expert: Expert | None) -> ToolDefinition:
    description = (
        expert.description if expert and expert.description else f"Delegates to the expert {key}."
    )
    declared_schema = expert.tool.input_schema if expert else None
    return ToolDefinition(
        skill_name=key,
        name=name,
        description=description,
        input_schema=argument_schema(declared_schema, {QUERY: _EXTRA_QUERY_SCHEMA})
        if declared_schema
        else _QUERY_SCHEMA,
        kind="delegate",
    )
