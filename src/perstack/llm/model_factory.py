"""Picks the adapter for a provider: what `engine` uses."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol, get_args

from pydantic import ValidationError

from perstack.definition.model import Definitions, Provider, ProviderName, ReasoningBudget
from perstack.errors import ConfigError
from perstack.llm.litellm_model import LiteLlmModel
from perstack.llm.scripted.model import SCRIPTED_MODEL, SCRIPTED_PROVIDER, ScriptedModel
from perstack.llm.scripted.script import load_script, script_path
from perstack.llm.selection import create_model_selector
from perstack.llm.wire.model import WireModel
from perstack.runtime.ports import Model


class ModelCache:
    """The model of the present definitions, and those of earlier ones that jobs still use.

    Args:
        factory: Opens the model of a set of definitions.
        definitions: The first set.

    Attributes:
        current: The model for jobs that begin now.
    """

    def __init__(self, factory: Callable[[Definitions], Model], definitions: Definitions) -> None:
        self._factory = factory
        self._settings = _model_settings(definitions)
        self.current = factory(definitions)
        self._use_counts: Counter[Model] = Counter()

    async def update(self, definitions: Definitions) -> Model:
        """The model for new definitions: the present one, unless they want another.

        Raises:
            ConfigError: They want one that cannot be opened. Nothing has changed then.
        """
        settings = _model_settings(definitions)
        if settings == self._settings:
            return self.current
        previous, self.current = self.current, self._factory(definitions)
        self._settings = settings
        if previous is not self.current and not self._use_counts[previous]:
            await previous.aclose()
        return self.current

    @asynccontextmanager
    async def keep_open(self, model: Model) -> AsyncGenerator[None]:
        """Keep a model open; an earlier one is closed when its last use ends."""
        self._use_counts[model] += 1
        try:
            yield
        finally:
            self._use_counts[model] -= 1
            if not self._use_counts[model]:
                del self._use_counts[model]
                if model is not self.current:
                    await model.aclose()

    async def aclose(self) -> None:
        """Close the present one."""
        await self.current.aclose()


def _model_settings(definitions: Definitions) -> tuple[object, ...]:
    """All that decides which model is opened, and how."""
    return (
        definitions.provider,
        definitions.model,
        definitions.fallbacks,
        definitions.tiers,
        definitions.models,
        definitions.reasoning_budget,
        "reasoning_budget" in definitions.model_fields_set,
        definitions.timeout,
        definitions.path,
    )


class OpenModel(Model, Protocol):
    """A model with a life: to be closed at the end."""

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
        model: Replaces the file's model and every tier. With this or another provider, no other
            model stands in for one that cannot be reached; a script plays for all of them.
        reasoning_budget: Replaces the file's.
        timeout_ms: Replaces the file's; for one generation.

    Raises:
        ConfigError: The provider is unknown, or its script cannot be played.
    """
    model_provider = _resolve_provider(definitions, provider)
    is_scripted = model_provider.provider_name == SCRIPTED_PROVIDER
    selector = create_model_selector(
        definitions,
        provider=model_provider,
        model=model or (SCRIPTED_MODEL if is_scripted else None),
        reasoning_budget=reasoning_budget,
        timeout_ms=timeout_ms,
        has_fallbacks=model is None and (provider is None or is_scripted),
    )
    if is_scripted:
        script = load_script(script_path(definitions, model_provider, environment))
        return ScriptedModel(selector, script)
    return WireModel(selector, environment, LiteLlmModel(selector, environment))


def _resolve_provider(definitions: Definitions, name: str | None) -> Provider:
    if name is None or name == definitions.provider.provider_name:
        return definitions.provider
    try:
        return Provider.model_validate({"providerName": name})
    except ValidationError as error:
        supported = ", ".join(get_args(ProviderName))
        raise ConfigError(
            f"there is no provider {name!r}.", hint=f"Use one of {supported}."
        ) from error
