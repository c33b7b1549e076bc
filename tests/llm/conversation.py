"""Conversations, requests and listeners for the tests of the models."""

from collections.abc import Sequence
from dataclasses import replace

from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    Message,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)
from perstack.core.tools import ToolDefinition
from perstack.definition.model import (
    Expert,
    ModelChoice,
    Provider,
    ProviderName,
    ProviderSetting,
    ReasoningBudget,
)
from perstack.llm.catalog import model_facts
from perstack.runtime.ports import GenerationRequest

INSTRUCTION = InstructionMessage(stable="You add.", volatile="It is noon.")
ADD = ToolDefinition(
    skill_name="sums",
    name="add",
    description="Adds",
    input_schema={"type": "object", "properties": {"a": {"type": "integer"}}},
)


def says(text: str) -> UserMessage:
    return UserMessage(contents=(TextPart(text=text),))


def answers(text: str) -> ExpertMessage:
    return ExpertMessage(contents=(TextPart(text=text),))


def calls(call_id: str, thinking: ThinkingPart | None = None) -> ExpertMessage:
    call = ToolCallPart(tool_call_id=call_id, tool_name="add", args={"a": 1})
    return ExpertMessage(contents=(thinking, call) if thinking else (call,))


def returns(call_id: str, text: str, *, is_error: bool = False) -> ToolMessage:
    result = ToolResultPart(
        tool_call_id=call_id,
        tool_name="add",
        contents=(TextPart(text=text),),
        is_error=is_error,
    )
    return ToolMessage(contents=(result,))


def ask(
    provider: Provider,
    *,
    model: str,
    messages: Sequence[Message] = (INSTRUCTION, says("add 1 and 2")),
    tools: tuple[ToolDefinition, ...] = (ADD,),
    budget: ReasoningBudget = "none",
    timeout_seconds: float = 20.0,
    expert_key: str = "adder",
) -> GenerationRequest:
    return GenerationRequest(
        choice=ModelChoice(
            provider,
            model,
            budget,
            timeout_seconds,
            model_facts(provider.provider_name, model),
        ),
        messages=tuple(messages),
        tools=tools,
        conversation_id="run1",
        expert_key=expert_key,
    )


def ask_for(expert: Expert, provider: Provider, *, model: str) -> GenerationRequest:
    """A request with all that an expert asks of its provider."""
    return replace(ask(provider, model=model), provider_tools=expert.asked_of_provider)


def provider_at(name: ProviderName, url: str, headers: dict[str, str] | None = None) -> Provider:
    setting = (
        ProviderSetting(base_url=url, headers=headers) if headers else ProviderSetting(base_url=url)
    )
    return Provider(provider_name=name, setting=setting)


class Listener:
    """Keeps the deltas that it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []

    def reasoning(self, delta: str) -> None:
        self.thoughts.append(delta)

    def text(self, delta: str) -> None:
        self.texts.append(delta)
