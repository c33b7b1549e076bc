"""Who would generate for the experts, found out without asking anybody."""

from collections.abc import Mapping
from dataclasses import dataclass

from perstack.cli.surface import Variable
from perstack.definition.model import Definitions
from perstack.errors import ConfigError
from perstack.llm.providers import ROUTES
from perstack.llm.selection import select

SCRIPTED = "scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Who generates, as the file alone has it.

    Attributes:
        provider: The provider of the file.
        key: The variable that holds the provider's key, if it needs one.
        models: The model of each expert, by key; an expert for which none can be found is absent.
        problems: What would stop every job, or one of an expert.
    """

    provider: str
    key: Variable | None
    models: dict[str, str]
    problems: tuple[str, ...]


def choices(definitions: Definitions, environment: Mapping[str, str]) -> Choices:
    """What the file and the environment come to.

    Args:
        definitions: The file.
        environment: Of the process, with the values of the `.env` files.
    """
    provider = definitions.provider
    name = provider.provider_name
    if name == SCRIPTED:
        return _scripted(definitions, environment)
    problems: list[str] = []
    route = ROUTES.get(name)
    if route is None:
        problems.append(f"provider {name!r} is not supported yet; supported: {_supported()}")
    selection = select(definitions, provider=provider)
    models: dict[str, str] = {}
    for key, expert in definitions.experts.items():
        try:
            models[key] = selection.choose(expert).model
        except ConfigError as error:
            problems.append(str(error))
    variable = route.key_variable if route else None
    return Choices(
        provider=name,
        key=Variable(variable, bool(environment.get(variable))) if variable else None,
        models=models,
        problems=tuple(problems),
    )


def _supported() -> str:
    return ", ".join(sorted([*ROUTES, SCRIPTED]))


def _scripted(definitions: Definitions, environment: Mapping[str, str]) -> Choices:
    # Loaded here because only those who play scripts should wait for it.
    from perstack.llm.script import load_script, script_path  # noqa: PLC0415 - see above

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
    return Choices(
        provider=SCRIPTED,
        key=None,
        models=dict.fromkeys(definitions.experts, SCRIPTED),
        problems=tuple(problems),
    )
