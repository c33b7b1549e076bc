"""The tools of a request as its provider takes them, and the way back from its calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from logging import getLogger

from perstack.core.messages import ExpertMessage, Message, ToolCallPart
from perstack.core.tools import ToolDefinition
from perstack.definition.references import BASE_SKILL
from perstack.llm.conversions import Conversions
from perstack.llm.providers.profile import ProviderProfile
from perstack.llm.providers.tool_limits import ToolLimits
from perstack.llm.tool_schemas.fitting import UnfitSchemaError, fit_schema
from perstack.llm.tool_schemas.property_names import replace_names
from perstack.runtime.ports import Generation, GenerationRequest
from perstack.tool_names import wire_name

LOG = getLogger(__name__)

PropertyNames = Mapping[str, Mapping[str, str]]
"""What names of properties become, by the name of the tool."""


@dataclass(frozen=True, slots=True)
class SentNames:
    """What the names in a provider's calls stand for.

    Attributes:
        tools: The tools whose names had to be replaced, by the replacements.
        properties: The same for properties, by the tool's own name.
    """

    tools: Mapping[str, str]
    properties: PropertyNames

    def restore(self, generation: Generation) -> Generation:
        """A reply that calls tools by their own names."""
        if not self.tools and not self.properties:
            return generation
        calls = tuple(self._restore_call(call) for call in generation.tool_calls)
        return replace(generation, tool_calls=calls)

    def _restore_call(self, call: ToolCallPart) -> ToolCallPart:
        name = self.tools.get(call.tool_name, call.tool_name)
        return _with_names(call, name, self.properties.get(name, {}))


@dataclass(frozen=True, slots=True)
class _FittedTool:
    """A tool as a provider takes it, with the names that it had."""

    sent: ToolDefinition
    name: str
    own_properties: Mapping[str, str]

    @property
    def is_essential(self) -> bool:
        return self.sent.kind != "mcp" or self.sent.skill_name == BASE_SKILL


def fit_request(
    request: GenerationRequest, profile: ProviderProfile
) -> tuple[GenerationRequest, SentNames]:
    """A request with the tools and the arguments of earlier calls as its provider takes them.

    A tool is fitted once, so it has the same bytes in every request of a conversation.
    """
    limits = profile.tool_limits
    fit = _fitting(limits)
    fitted = [each for tool in request.tools if (each := fit(tool, limits)) is not None]
    shown = _select(fitted, len(request.provider_tools.names), profile)
    sent_names = SentNames(
        {each.sent.name: each.name for each in shown if each.sent.name != each.name},
        {each.name: each.own_properties for each in fitted if each.own_properties},
    )
    messages = request.messages
    if sent_names.properties:
        names = {
            tool: {own: sent for sent, own in own_names.items()}
            for tool, own_names in sent_names.properties.items()
        }
        messages = tuple(_rename_properties(message, names) for message in messages)
    return replace(request, tools=tuple(each.sent for each in shown), messages=messages), sent_names


@cache
def _fitting(_limits: ToolLimits) -> Conversions[ToolDefinition, ToolLimits, _FittedTool | None]:
    """Apart for limits that differ, because experts of several providers may share tools."""
    return Conversions(_convert_tool)


def _convert_tool(tool: ToolDefinition, limits: ToolLimits) -> _FittedTool | None:
    try:
        fitted = fit_schema(tool.input_schema, limits)
    except UnfitSchemaError as error:
        LOG.warning(
            "perstack: the tool %s of the skill %s is left out: %s.",
            tool.name,
            tool.skill_name,
            error,
        )
        return None
    description = tool.description
    if limits.max_description is not None and len(description) > limits.max_description:
        description = f"{description[: limits.max_description - 1]}…"
    sent = replace(
        tool,
        name=wire_name(tool.name),
        description=description,
        input_schema=fitted.schema,
    )
    return _FittedTool(sent, tool.name, fitted.own_names)


def _select(
    fitted: Sequence[_FittedTool], provider_tools: int, profile: ProviderProfile
) -> Sequence[_FittedTool]:
    """As many tools as the provider takes: those of servers of skills are the first to go."""
    limit = profile.tool_limits.max_tools
    if limit is None or len(fitted) + provider_tools <= limit:
        return fitted
    by_importance = sorted(fitted, key=lambda each: not each.is_essential)
    left_out = by_importance[limit - provider_tools :]
    names = tuple(each.name for each in left_out)
    _announce(left_out[0].sent, (profile.name, limit, names))
    ids = set(map(id, left_out))
    return [each for each in fitted if id(each) not in ids]


def _log_selection(_first: ToolDefinition, selection: tuple[str, int, tuple[str, ...]]) -> None:
    provider, limit, names = selection
    LOG.warning(
        "perstack: %s takes %d tools at most, so these are left out: %s. Choose with `pick` or "
        "`omit` of their skills.",
        provider,
        limit,
        ", ".join(names),
    )


_announce = Conversions(_log_selection)
"""Says it once for as long as the first of these tools is shown to anyone."""


def _rename_properties(message: Message, names: PropertyNames) -> Message:
    if not isinstance(message, ExpertMessage):
        return message
    if not any(call.tool_name in names for call in message.tool_calls):
        return message
    return _rename_in_calls(message, names)


def _convert_calls(message: ExpertMessage, names: PropertyNames) -> ExpertMessage:
    contents = tuple(
        _with_names(part, part.tool_name, names.get(part.tool_name, {}))
        if isinstance(part, ToolCallPart)
        else part
        for part in message.contents
    )
    return ExpertMessage(contents=contents)


_rename_in_calls = Conversions(_convert_calls)


def _with_names(call: ToolCallPart, name: str, properties: Mapping[str, str]) -> ToolCallPart:
    if name == call.tool_name and not properties:
        return call
    return ToolCallPart(
        tool_call_id=call.tool_call_id,
        tool_name=name,
        args=replace_names(call.args, properties),
        args_error=call.args_error,
    )
