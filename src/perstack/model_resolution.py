"""The models that would generate for the experts, without any request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from perstack.definition.model import Definitions, InteractiveSkill
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResolution:
    """The models, from the definition file alone.

    Attributes:
        provider: The provider of the file.
        variables: Those that the provider needs.
        models: The model of each expert, by key; an expert for which none can be found is absent.
        problems: What would stop every job, or one of an expert.
    """

    provider: str
    variables: tuple[EnvironmentVariable, ...]
    models: dict[str, str]
    problems: tuple[str, ...]


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
    variables = provider_profile(name).variables(provider.setting, environment)
    return ModelResolution(
        provider=name,
        variables=tuple(EnvironmentVariable.of(each, environment) for each in variables),
        models=models,
        problems=tuple(problems),
    )


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
    )


def needed_variables(definitions: Definitions, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What the provider needs in an environment, then what skills ask for, each once."""
    provider = definitions.provider
    profile = PROVIDER_PROFILES.get(provider.provider_name)
    names = list(profile.variables(provider.setting, environment)) if profile else []
    for expert in definitions.experts.values():
        for skill in expert.skills.values():
            if not isinstance(skill, InteractiveSkill):
                names += skill.required_env
    return tuple(dict.fromkeys(names))
