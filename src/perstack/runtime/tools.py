"""The tools of a run: those of its skills, one for each delegate, and questions to the user."""

from dataclasses import dataclass, field, replace

from perstack.core.inputs import QUERY, argument_schema, spoken
from perstack.core.messages import ToolCall, ToolCallPart, ToolKind
from perstack.core.outputs import completion_schema
from perstack.core.tools import ToolDefinition
from perstack.definition.delegates import delegate_tool_names
from perstack.definition.model import Definitions, Expert
from perstack.definition.names import BASE_SKILL
from perstack.definition.tables import Table
from perstack.definition.tool_names import tool_name
from perstack.definition.value_schemas import COMPOSING
from perstack.runtime.control import ATTEMPT_COMPLETION

_ORDER: dict[ToolKind, int] = {"mcp": 0, "delegate": 1, "interactive": 2}
_QUERY_SCHEMA: Table = {
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
_QUERY_BESIDE: Table = {
    "type": "string",
    "description": "What else the expert should know. It sees nothing else of this conversation.",
}


@dataclass(frozen=True, slots=True)
class Toolbox:
    """All tools of one run, by the names that the model uses.

    `delegates` maps a tool name to the key of its expert, `inputs` to the schema of the arguments
    that this expert declares, if it does.
    """

    definitions: tuple[ToolDefinition, ...]
    delegates: dict[str, str]
    inputs: dict[str, Table] = field(default_factory=dict[str, Table])

    def find(self, tool_name: str) -> ToolDefinition | None:
        """The tool with this name, if the run has it."""
        return next((tool for tool in self.definitions if tool.name == tool_name), None)

    def match(self, parts: tuple[ToolCallPart, ...]) -> tuple[ToolCall, ...]:
        """The calls with their tools, in order of execution.

        That is skills first, then delegates, then questions to the user. A call of an unknown tool
        belongs to no skill (`skill_name` is empty) and is answered with an error.
        """
        calls = [self._match(part) for part in parts]
        return tuple(sorted(calls, key=lambda call: _ORDER[call.kind]))

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

    def rejection(self, call: ToolCall) -> str | None:
        """Why a call cannot even be tried, in words for the model; `None` if it can."""
        if self.find(call.tool_name) is None:
            names = ", ".join(tool.name for tool in self.definitions)
            return f"There is no tool {call.tool_name!r}. The tools are: {names}."
        if call.args_error is not None:
            return f"Arguments unreadable ({call.args_error}). Call again with a JSON object."
        return self._delegate_rejection(call) if call.kind == "delegate" else None

    def _delegate_rejection(self, call: ToolCall) -> str | None:
        own = self.inputs.get(call.tool_name)
        if own is None:
            is_told = _is_query(call.args.get("query"))
            needed = "A delegate needs the argument `query`: a text that holds the whole task."
            return None if is_told else needed
        _, problems = _told(own, call)
        return f"Bad arguments: {'; '.join(problems)}." if problems else None

    def query_of(self, call: ToolCall) -> str:
        """What a delegate is told by a call that is no cause for rejection."""
        own = self.inputs.get(call.tool_name)
        return str(call.args["query"]) if own is None else _told(own, call)[0]


def _told(own: Table, call: ToolCall) -> tuple[str, tuple[str, ...]]:
    query = call.args.get(QUERY)
    if query is not None and not isinstance(query, str):
        return "", ("query must be a string",)
    inputs = {name: value for name, value in call.args.items() if name != QUERY}
    return spoken(own, inputs, query or "")


def _is_query(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def build_toolbox(
    expert: Expert,
    definitions: Definitions,
    skill_tools: tuple[ToolDefinition, ...],
    *,
    is_delegated: bool,
) -> Toolbox:
    """Put the tools of a run together.

    A run that was delegated has nobody to ask, so it gets no interactive tools.
    """
    own = tuple(tool for tool in skill_tools if not (is_delegated and tool.kind == "interactive"))
    taken = {tool.name for tool in own}
    delegates: dict[str, str] = {}
    inputs: dict[str, Table] = {}
    tools: list[ToolDefinition] = [_own_tool(tool, expert) for tool in own]
    for key, short_name in delegate_tool_names(expert, definitions).items():
        name = tool_name(key) if short_name in taken else short_name
        delegates[name] = key
        delegate = definitions.experts.get(key)
        if delegate is not None and delegate.tool.input_schema is not None:
            inputs[name] = delegate.tool.input_schema
        tools.append(_delegate_tool(name, key, delegate))
    return Toolbox(definitions=tuple(tools), delegates=delegates, inputs=inputs)


def _own_tool(tool: ToolDefinition, expert: Expert) -> ToolDefinition:
    """A tool as this expert is shown it: it completes with what it declares to answer."""
    declared = expert.tool.output_schema
    if declared is None or (tool.skill_name, tool.name) != (BASE_SKILL, ATTEMPT_COMPLETION):
        return tool
    return replace(tool, input_schema=completion_schema(declared))


def _delegate_tool(name: str, key: str, expert: Expert | None) -> ToolDefinition:
    description = (
        expert.description if expert and expert.description else f"Delegates to the expert {key}."
    )
    own = expert.tool.input_schema if expert else None
    return ToolDefinition(
        skill_name=key,
        name=name,
        description=description,
        input_schema=_shown(own) if own else _QUERY_SCHEMA,
        kind="delegate",
    )


def _shown(own: Table) -> Table:
    """The arguments of a delegate without what several models refuse at the top of a schema.

    They are checked against the whole of it.
    """
    plain = {name: value for name, value in own.items() if name not in (*COMPOSING, "$schema")}
    return argument_schema(plain, {QUERY: _QUERY_BESIDE})
