"""The tools and skills that providers run themselves, as a file asks for them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, StringConstraints, model_validator

from perstack.definition.diagnostics import (
    Diagnostic,
    did_you_mean,
    parse_json,
    raise_field_errors,
    validated_by,
)
from perstack.models import FrozenModel, TomlTable, is_table, table_or_empty

ToolOptions = dict[str, Any]

_FILE_SEARCH = frozenset({"vectorStoreIds", "maxNumResults"})
_NO_OPTIONS = frozenset[str]()

PROVIDER_TOOLS: dict[str, dict[str, frozenset[str]]] = {
    "anthropic": {
        "webSearch": frozenset({"maxUses", "allowedDomains"}),
        "webFetch": frozenset({"maxUses"}),
        "codeExecution": _NO_OPTIONS,
    },
    "openai": {
        "webSearch": frozenset({"maxUses", "allowedDomains"}),
        "fileSearch": _FILE_SEARCH,
        "codeInterpreter": _NO_OPTIONS,
        "imageGeneration": _NO_OPTIONS,
    },
    "azure-openai": {
        "webSearchPreview": _NO_OPTIONS,
        "fileSearch": _FILE_SEARCH,
        "codeInterpreter": _NO_OPTIONS,
        "imageGeneration": _NO_OPTIONS,
    },
    "google": {
        "googleSearch": _NO_OPTIONS,
        "codeExecution": _NO_OPTIONS,
        "urlContext": _NO_OPTIONS,
        "fileSearch": _FILE_SEARCH,
        "googleMaps": _NO_OPTIONS,
    },
    "google-vertex": {
        "codeExecution": _NO_OPTIONS,
        "urlContext": _NO_OPTIONS,
        "googleSearch": _NO_OPTIONS,
        "enterpriseWebSearch": _NO_OPTIONS,
        "googleMaps": _NO_OPTIONS,
    },
}
"""The options of each tool of each provider."""

SKILL_PROVIDERS = frozenset({"anthropic"})
STAND_IN_PROVIDER = "scripted"
"""Plays the replies of any provider, so it takes the tools of all."""

_OPTION_KINDS: dict[str, Literal["count", "texts"]] = {
    "maxUses": "count",
    "allowedDomains": "texts",
    "vectorStoreIds": "texts",
    "maxNumResults": "count",
}


_DEFINITION_HINT = """write a JSON object in single quotes, such as '{"version":"latest"}'"""


def check_skill_definition(text: str) -> list[Diagnostic]:
    """Why a text is not a JSON object.

    Raises:
        InvalidFieldsError: It is not JSON.
    """
    is_object = is_table(parse_json(text, _DEFINITION_HINT))
    return [] if is_object else [Diagnostic("must be a JSON object", _DEFINITION_HINT)]


class ProviderSkill(FrozenModel):
    """A skill that the provider's model works with in the provider's container."""

    type: Literal["builtin", "custom"] = Field(description="Whose skill it is.")
    skill_id: Literal["pdf", "docx", "pptx", "xlsx"] | None = Field(
        default=None, description="builtin: the provider's skill."
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = Field(
        default=None, description="custom: the id that the provider gave the skill."
    )
    definition: (
        Annotated[str, StringConstraints(max_length=20_480), validated_by(check_skill_definition)]
        | None
    ) = Field(
        default=None, description="custom: more of what the provider is sent, as a JSON object."
    )

    @model_validator(mode="after")
    def _validate_keys(self) -> Self:
        needed, unfit = ("skillId", "name") if self.type == "builtin" else ("name", "skillId")
        present = {"skillId": self.skill_id, "name": self.name}
        errors = [Diagnostic("is missing", key_path=(needed,))] if not present[needed] else []
        if present[unfit] is not None:
            errors.append(Diagnostic(f"is no key of a {self.type} skill", key_path=(unfit,)))
        raise_field_errors(errors)
        return self


@dataclass(frozen=True, slots=True)
class ProviderTools:
    """What an expert asks of its provider beside text.

    Attributes:
        names: The tools, without repetition.
        options: The options of tools, by their keys in the file.
        skills: The skills.
    """

    names: tuple[str, ...] = ()
    options: Mapping[str, ToolOptions] = field(default_factory=dict[str, ToolOptions])
    skills: tuple[ProviderSkill, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names or self.skills)


NO_PROVIDER_TOOLS = ProviderTools()


def check_tool_options(options: dict[str, Any]) -> list[Diagnostic]:
    """Why options are none of any tool, or have no valid value."""
    return [error for tool, value in options.items() for error in _check_tool(tool, value)]


def _check_tool(tool: str, options: object) -> Iterator[Diagnostic]:
    known = tools_of(STAND_IN_PROVIDER)
    if tool not in known:
        hint = did_you_mean(tool, known) or f"the tools are {', '.join(known)}"
        yield Diagnostic("is no tool of any provider", hint, key_path=(tool,))
        return
    if not is_table(options):
        yield Diagnostic("must be a table", f"write {tool} = {{ … }}", key_path=(tool,))
        return
    taken = sorted(_options_of(tool))
    for option, value in options.items():
        if option not in taken:
            hint = did_you_mean(option, taken) or _list_options(taken)
            yield Diagnostic(f"is no option of {tool}", hint, key_path=(tool, option))
        elif (error := _value_error(option, value)) is not None:
            yield Diagnostic(error, key_path=(tool, option))


def _options_of(tool: str) -> set[str]:
    return {option for tools in PROVIDER_TOOLS.values() for option in tools.get(tool, ())}


def _value_error(option: str, value: object) -> str | None:
    if _OPTION_KINDS[option] == "count":
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return None if is_count else "must be a whole number of 1 or more"
    entries = cast("list[object]", value) if isinstance(value, list) else []
    is_texts = bool(entries) and all(isinstance(each, str) and each for each in entries)
    return None if is_texts else "must be a list of texts with at least one entry"


def _list_options(options: list[str]) -> str:
    return f"its options are {', '.join(options)}" if options else "it has no options"


def tools_of(provider: str) -> Mapping[str, frozenset[str]]:
    """The tools of a provider with their options; none if it has none."""
    if provider == STAND_IN_PROVIDER:
        names = {name for tools in PROVIDER_TOOLS.values() for name in tools}
        return {name: frozenset(_options_of(name)) for name in sorted(names)}
    return PROVIDER_TOOLS.get(provider, {})


def has_skills(provider: str) -> bool:
    """Whether a provider has skills of its own."""
    return provider in SKILL_PROVIDERS or provider == STAND_IN_PROVIDER


def provider_tool_errors(top: TomlTable, experts: TomlTable) -> Iterator[Diagnostic]:
    """What the providers of a file cannot do of what its experts ask of them."""
    found: list[Diagnostic] = []
    for provider in _provider_names(top):
        for key, value in experts.items():
            expert = table_or_empty(value)
            for error in (
                *_check_names(provider, expert),
                *_check_options(provider, expert),
                *_check_skills(provider, expert),
            ):
                located = error.within("experts", key)
                if located not in found:
                    found.append(located)
                    yield located


def _provider_names(top: TomlTable) -> Iterator[str]:
    """That of the file, then those that stand in for it."""
    fallbacks = top.get("fallbacks")
    tables = cast("list[object]", fallbacks) if isinstance(fallbacks, list) else []
    name = table_or_empty(top.get("provider")).get("providerName", "anthropic")
    names: list[object] = [name]
    for table in tables:
        provider = table_or_empty(table_or_empty(table).get("provider"))
        names.append(provider.get("providerName", name))
    yield from dict.fromkeys(each for each in names if isinstance(each, str))


def _tool_names(expert: TomlTable) -> list[Any]:
    names = expert.get("providerTools")
    return cast("list[Any]", names) if isinstance(names, list) else []


def _check_names(provider: str, expert: TomlTable) -> Iterator[Diagnostic]:
    tools = tools_of(provider)
    for index, name in enumerate(_tool_names(expert)):
        if not isinstance(name, str):
            continue
        path = ("providerTools", index)
        if not tools:
            hint = "use an MCP server as a skill, or another provider"
            yield Diagnostic(f"{provider} has no tools of its own", hint, key_path=path)
        elif name not in tools:
            likely = did_you_mean(name, tools, cutoff=0.75)
            known = f"{provider} has {', '.join(tools)}"
            hint = f"{likely} {known}" if likely else known
            yield Diagnostic(f"is no tool of {provider}", hint, key_path=path)


def _check_options(provider: str, expert: TomlTable) -> Iterator[Diagnostic]:
    options = table_or_empty(expert.get("providerToolOptions"))
    names = _tool_names(expert)
    tools = tools_of(provider)
    for tool, value in options.items():
        path = ("providerToolOptions", tool)
        if tool not in names and tool in tools_of(STAND_IN_PROVIDER):
            hint = f'add "{tool}" to providerTools, or remove the options'
            yield Diagnostic("is not in providerTools", hint, key_path=path)
            continue
        taken = tools.get(tool, frozenset(_OPTION_KINDS))
        for option in table_or_empty(value):
            if option in _options_of(tool) and option not in taken:
                hint = _list_options(sorted(taken))
                reason = f"is no option of {tool} of {provider}"
                yield Diagnostic(reason, hint, key_path=(*path, option))
    if "fileSearch" in names and "vectorStoreIds" not in table_or_empty(options.get("fileSearch")):
        hint = 'write providerToolOptions = { fileSearch = { vectorStoreIds = ["…"] } }'
        path = ("providerTools", names.index("fileSearch"))
        yield Diagnostic("fileSearch has no vectorStoreIds to search", hint, key_path=path)


def _check_skills(provider: str, expert: TomlTable) -> Iterator[Diagnostic]:
    if expert.get("providerSkills") and not has_skills(provider):
        hint = f"only {', '.join(sorted(SKILL_PROVIDERS))} has them"
        yield Diagnostic(f"{provider} has no skills of its own", hint, key_path=("providerSkills",))
