"""The tools of a run: those of its skills, one for each delegate, and questions to the user."""

from dataclasses import dataclass

from perstack.core.messages import ToolCall, ToolCallPart, ToolKind
from perstack.core.tools import ToolDefinition
from perstack.definition.delegates import delegate_tool_names
from perstack.definition.model import Definitions, Expert
from perstack.definition.tool_names import tool_name

_ORDER: dict[ToolKind, int] = {"mcp": 0, "delegate": 1, "interactive": 2}
_QUERY_SCHEMA = {
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


@dataclass(frozen=True, slots=True)
class Toolbox:
    """All tools of one run, by the names that the model uses.

    `delegates` maps a tool name to the key of its expert.
    """

    definitions: tuple[ToolDefinition, ...]
    delegates: dict[str, str]

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
        if call.kind == "delegate" and not _is_query(call.args.get("query")):
            return "A delegate needs the argument `query`: a text that holds the whole task."
        return None


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
    tools: list[ToolDefinition] = list(own)
    for key, short_name in delegate_tool_names(expert, definitions).items():
        name = tool_name(key) if short_name in taken else short_name
        delegates[name] = key
        tools.append(_delegate_tool(name, key, definitions.experts.get(key)))
    return Toolbox(definitions=tuple(tools), delegates=delegates)


def _delegate_tool(name: str, key: str, expert: Expert | None) -> ToolDefinition:
    description = (
        expert.description if expert and expert.description else f"Delegates to the expert {key}."
    )
    return ToolDefinition(
        skill_name=key,
        name=name,
        description=description,
        input_schema=_QUERY_SCHEMA,
        kind="delegate",
    )
