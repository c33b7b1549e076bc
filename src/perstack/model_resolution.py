"""The models that would generate for the experts, without any request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from perstack.definition.model import Definitions, InteractiveSkill, Provider
from perstack.errors import ConfigError
from perstack.llm.providers.registry import PROVIDER_PROFILES, provider_profile
from perstack.llm.selection import create_model_selector

SCRIPTED_PROVIDER = "scripted"


@dataclass(frozen=True, slots=True)
class EnvironmentVariable:
    """A required environment variable, without its value."""

    name: str
    is_set: bool

    @classmethod
    def of(cls, name: str, environment: Mapping[str, str]) -> Self:
        return cls(name, bool(environment.get(name)))


@dataclass(frozen=True, slots=True)
class FallbackResolution:
    """A model that stands in for others, with the variables that its provider needs."""

    provider: str
    model: str
    variables: tuple[EnvironmentVariable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResolution:
    """The models, from the definition file alone.

    Attributes:
        provider: The provider of the file.
        variables: Those that the provider needs.
        models: The model of each expert, by key; an expert for which none can be found is absent.
        problems: What would stop every job, or one of an expert.
        fallbacks: The models that stand in for these.
    """

    provider: str
    variables: tuple[EnvironmentVariable, ...]
    models: dict[str, str]
    problems: tuple[str, ...]
    fallbacks: tuple[FallbackResolution, ...] = ()


def resolve_models(definitions: Definitions, environment: Mapping[str, str]) -> ModelResolution:
    """The models of a file in an environment, which has the values of the `.env` files."""
    provider = definitions.provider
    name = provider.provider_name
    if name == SCRIPTED_PROVIDER:
        return _resolve_scripted(definitions, environment)
    problems: list[str] = []
    selection = create_model_selector(definitions, provider=provider)
    models: dict[str, str] = {}
    for key, expert in definitions.experts.items():
        try:
            models[key] = selection.choose(expert).model
        except ConfigError as error:
            problems.append(str(error))
    fallbacks = tuple(
        FallbackResolution(other.provider_name, fallback.model, _variables_of(other, environment))
        for fallback in definitions.fallbacks
        for other in (fallback.provider or provider,)
    )
    return ModelResolution(
        provider=name,
        variables=_variables_of(provider, environment),
        models=models,
        problems=tuple(problems),
        fallbacks=fallbacks,
    )


def _variables_of(
    provider: Provider, environment: Mapping[str, str]
) -> tuple[EnvironmentVariable, ...]:
    names = provider_profile(provider.provider_name).variables(provider.setting, environment)
    return tuple(EnvironmentVariable.of(name, environment) for name in names)


def _resolve_scripted(definitions: Definitions, environment: Mapping[str, str]) -> ModelResolution:
    # Loaded here because only those who play scripts should wait for it.
    from perstack.llm.scripted.script import load_script, script_path  # noqa: PLC0415 - see above

    problems: list[str] = []
    try:
        script = load_script(script_path(definitions, definitions.provider, environment))
        problems += [
            f"the script {script.name} has no reply for expert {key!r}"
            for key in definitions.experts
            if not script.replies(key)
        ]
    except ConfigError as error:
        problems.append(str(error))
    return ModelResolution(
        provider=SCRIPTED_PROVIDER,
        variables=(),
        models=dict.fromkeys(definitions.experts, SCRIPTED_PROVIDER),
        problems=tuple(problems),
        fallbacks=tuple(
            FallbackResolution(SCRIPTED_PROVIDER, fallback.model, ())
            for fallback in definitions.fallbacks
        ),
    )


def needed_variables(definitions: Definitions, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What the providers need in an environment, then what skills ask for, each once."""
    names: list[str] = []
    own = definitions.provider
    is_scripted = own.provider_name == SCRIPTED_PROVIDER
    others = () if is_scripted else (each.provider or own for each in definitions.fallbacks)
    for provider in (own, *others):
        profile = PROVIDER_PROFILES.get(provider.provider_name)
        names += profile.variables(provider.setting, environment) if profile else ()
    for expert in definitions.experts.values():
        for skill in expert.skills.values():
            if not isinstance(skill, InteractiveSkill):
                names += skill.required_env
    return tuple(dict.fromkeys(names))
