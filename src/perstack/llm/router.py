"""Picks the adapter for a provider: what `engine` uses."""

from collections.abc import Mapping
from typing import Protocol, get_args

from pydantic import ValidationError

from perstack.definition.model import Definitions, Provider, ProviderName, ReasoningBudget
from perstack.errors import ConfigError
from perstack.llm.client import LiteLlmModel
from perstack.llm.script import load_script, script_path
from perstack.llm.scripted import MODEL, PROVIDER, ScriptedModel
from perstack.llm.selection import select
from perstack.runtime.ports import Model


class OpenModel(Model, Protocol):
    """A model with a life: to be warmed up when there is time for it, and closed at the end."""

    async def warm_up(self) -> None:
        """Do what the first generation would otherwise wait for. May be cancelled or left out."""
        ...

    async def aclose(self) -> None:
        """Close the connections that are kept open. Used again, the model opens new ones."""
        ...


def open_model(
    *,
    definitions: Definitions,
    environment: Mapping[str, str],
    provider: str | None = None,
    model: str | None = None,
    reasoning_budget: ReasoningBudget | None = None,
    timeout_ms: int | None = None,
) -> OpenModel:
    """The model of a set of definitions. Reads a script, if one is played; connects to nothing.

    Args:
        definitions: The file's model, provider, reasoning budget and timeout.
        environment: Keys and addresses: the environment with the values of the `.env` files.
        provider: Replaces the file's provider, and with it the file's settings and model, unless
            it is the same one.
        model: Replaces the file's model and every tier.
        reasoning_budget: Replaces the file's.
        timeout_ms: Replaces the file's; for one generation.

    Raises:
        ConfigError: The provider is unknown, or its script cannot be played.
    """
    chosen = _provider(definitions, provider)
    is_scripted = chosen.provider_name == PROVIDER
    selection = select(
        definitions,
        provider=chosen,
        model=model or (MODEL if is_scripted else None),
        reasoning_budget=reasoning_budget,
        timeout_ms=timeout_ms,
    )
    if is_scripted:
        script = load_script(script_path(definitions, chosen, environment))
        return ScriptedModel(selection, script)
    return LiteLlmModel(selection, environment)


def _provider(definitions: Definitions, name: str | None) -> Provider:
    if name is None or name == definitions.provider.provider_name:
        return definitions.provider
    try:
        return Provider.model_validate({"providerName": name})
    except ValidationError as error:
        known = ", ".join(get_args(ProviderName))
        raise ConfigError(f"there is no provider {name!r}.", hint=f"Use one of {known}.") from error
