"""Tools and skills that providers run: which there are, and what is wrong with others."""

from pathlib import Path

import pytest

from perstack.definition.provider_tools import PROVIDER_TOOLS, SKILL_PROVIDERS
from perstack.llm.providers.registry import PROVIDER_PROFILES
from tests.definition.sample import EXPERT, accepted, problems, warnings

SEARCHES = 'providerTools = ["webSearch"]\n'


def at(provider: str, fields: str) -> str:
    return f'[provider]\nproviderName = "{provider}"\n{EXPERT}{fields}'


def test_the_file_and_the_providers_name_the_same_tools() -> None:
    by_profile = {
        name: set(profile.provider_tools)
        for name, profile in PROVIDER_PROFILES.items()
        if profile.provider_tools
    }

    assert by_profile == {name: set(tools) for name, tools in PROVIDER_TOOLS.items()}
    assert set(PROVIDER_TOOLS) >= SKILL_PROVIDERS


@pytest.mark.parametrize(
    ("provider", "tool"), [(name, tool) for name, tools in PROVIDER_TOOLS.items() for tool in tools]
)
def test_every_tool_of_a_provider_is_accepted(tmp_path: Path, provider: str, tool: str) -> None:
    options = (
        'providerToolOptions = { fileSearch = { vectorStoreIds = ["v"] } }\n'
        if tool == "fileSearch"
        else ""
    )

    loaded = accepted(tmp_path, at(provider, f'providerTools = ["{tool}"]\n{options}'), strict=True)

    assert loaded.definitions.experts["a"].asked_of_provider.names == (tool,)


def test_options_and_skills_are_read(tmp_path: Path) -> None:
    fields = (
        'providerTools = ["webSearch", "webSearch"]\n'
        'providerToolOptions = { webSearch = { maxUses = 3, allowedDomains = ["a.com"] } }\n'
        'providerSkills = [{ type = "builtin", skillId = "pdf" },'
        ' { type = "custom", name = "skill_1", definition = \'{"version":"2"}\' }]\n'
    )

    asked = accepted(tmp_path, EXPERT + fields, strict=True)
    asked_of_provider = asked.definitions.experts["a"].asked_of_provider

    assert asked_of_provider.names == ("webSearch", "codeExecution")
    assert asked_of_provider.options == {"webSearch": {"maxUses": 3, "allowedDomains": ["a.com"]}}
    assert [skill.skill_id or skill.name for skill in asked_of_provider.skills] == [
        "pdf",
        "skill_1",
    ]


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        pytest.param(
            at("anthropic", 'providerTools = ["webSerch"]\n'),
            '5:18: experts."a".providerTools[0]',
            'is no tool of anthropic (did you mean "webSearch"?'
            " anthropic has webSearch, webFetch, codeExecution)",
            id="unknown",
        ),
        pytest.param(
            at("google", SEARCHES),
            '5:18: experts."a".providerTools[0]',
            "is no tool of google (google has googleSearch, codeExecution, urlContext, fileSearch,"
            " googleMaps)",
            id="of another provider",
        ),
        pytest.param(
            at("ollama", SEARCHES),
            '5:18: experts."a".providerTools[0]',
            "ollama has no tools of its own (use an MCP server as a skill, or another provider)",
            id="of a provider without tools",
        ),
        pytest.param(
            at("openai", 'providerTools = ["fileSearch"]\n'),
            '5:18: experts."a".providerTools[0]',
            "fileSearch has no vectorStoreIds to search (write providerToolOptions ="
            ' { fileSearch = { vectorStoreIds = ["…"] } })',
            id="nothing to search",
        ),
        pytest.param(
            EXPERT + "providerToolOptions = { webSearch = { maxUses = 3 } }\n",
            '3:25: experts."a".providerToolOptions.webSearch',
            'is not in providerTools (add "webSearch" to providerTools, or remove the options)',
            id="options without their tool",
        ),
        pytest.param(
            EXPERT + SEARCHES + "providerToolOptions = { webSearh = { maxUses = 3 } }\n",
            '4:25: experts."a".providerToolOptions.webSearh',
            'is no tool of any provider (did you mean "webSearch"?)',
            id="options of an unknown tool",
        ),
        pytest.param(
            EXPERT + SEARCHES + "providerToolOptions = { webSearch = { maxUse = 3 } }\n",
            '4:39: experts."a".providerToolOptions.webSearch.maxUse',
            'is no option of webSearch (did you mean "maxUses"?)',
            id="an unknown option",
        ),
        pytest.param(
            EXPERT + SEARCHES + "providerToolOptions = { webSearch = { maxUses = 0 } }\n",
            '4:39: experts."a".providerToolOptions.webSearch.maxUses',
            "must be a whole number of 1 or more",
            id="no count",
        ),
        pytest.param(
            EXPERT + SEARCHES + 'providerToolOptions = { webSearch = { allowedDomains = "a" } }\n',
            '4:39: experts."a".providerToolOptions.webSearch.allowedDomains',
            "must be a list of texts with at least one entry",
            id="no list",
        ),
        pytest.param(
            EXPERT + SEARCHES + "providerToolOptions = { webSearch = 3 }\n",
            '4:25: experts."a".providerToolOptions.webSearch',
            "must be a table (write webSearch = { … })",
            id="no table",
        ),
        pytest.param(
            at("openai", 'providerSkills = [{ type = "builtin", skillId = "pdf" }]\n'),
            '5:1: experts."a".providerSkills',
            "openai has no skills of its own (only anthropic has them)",
            id="skills of another provider",
        ),
        pytest.param(
            EXPERT + 'providerSkills = [{ type = "builtin", skillId = "ppt" }]\n',
            '3:39: experts."a".providerSkills[0].skillId',
            'must be one of "pdf", "docx", "pptx", "xlsx" (did you mean "pptx"?)',
            id="an unknown skill",
        ),
        pytest.param(
            EXPERT + 'providerSkills = [{ type = "custom" }]\n',
            '3:19: experts."a".providerSkills[0].name',
            "is missing",
            id="a skill without its name",
        ),
        pytest.param(
            EXPERT + 'providerSkills = [{ type = "custom", name = "x", skillId = "pdf" }]\n',
            '3:50: experts."a".providerSkills[0].skillId',
            "is no key of a custom skill",
            id="a key of another kind of skill",
        ),
        pytest.param(
            EXPERT + 'providerSkills = [{ type = "custom", name = "x", definition = "{" }]\n',
            '3:50: experts."a".providerSkills[0].definition',
            "is not JSON at character 2 (write a JSON object in single quotes, such as"
            """ '{"version":"latest"}')""",
            id="a definition that is no JSON",
        ),
        pytest.param(
            EXPERT + 'providerSkills = [{ type = "custom", name = "x", definition = "[]" }]\n',
            '3:50: experts."a".providerSkills[0].definition',
            "must be a JSON object (write a JSON object in single quotes, such as"
            """ '{"version":"latest"}')""",
            id="a definition that is no object",
        ),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(
    tmp_path: Path, content: str, where: str, what: str
) -> None:
    assert problems(tmp_path, content) == [f"perstack.toml:{where}: {what}"]


def test_a_script_stands_in_for_every_provider(tmp_path: Path) -> None:
    fields = (
        'providerTools = ["googleSearch", "webSearch"]\n'
        "providerToolOptions = { webSearch = { maxUses = 3 } }\n"
        'providerSkills = [{ type = "builtin", skillId = "pdf" }]\n'
    )

    assert warnings(tmp_path, at("scripted", fields)) == []
