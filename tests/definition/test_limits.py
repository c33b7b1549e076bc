"""Every limit of a definition file: the last value that is accepted, the first that is not."""

import json
from pathlib import Path

import pytest

from tests.definition.sample import EXPERT, accepted, problems

STDIO = 'skills.s = {{ type = "mcpStdioSkill", command = "x", {} }}\n'
REMOTE = 'skills.s = {{ type = "mcpSseSkill", {} }}\n'
QUESTION = 'skills.s = {{ type = "interactiveSkill", tools = {{ {} }} }}\n'
URL = "https://example.com/"
SCHEMA_LENGTH = len('{"type":"object","x":""}')


def top(text: str) -> str:
    return f"{text}\n{EXPERT}"


def expert(text: str) -> str:
    return f"{EXPERT}{text}\n"


def stdio(text: str) -> str:
    return EXPERT + STDIO.format(text)


def remote(text: str) -> str:
    return EXPERT + REMOTE.format(text)


def question(text: str) -> str:
    return EXPERT + QUESTION.format(text)


def named(key: str) -> str:
    return f'[experts."{key}"]\ninstruction = "x"\n'


def instruction(length: int) -> str:
    return f'[experts."a"]\ninstruction = "{"x" * length}"\n'


def listing(key: str, count: int) -> str:
    return f"{key} = {json.dumps([f'n{index}' for index in range(count)])}"


def skills(count: int) -> str:
    lines = (
        f'skills.s{index} = {{ type = "mcpStdioSkill", command = "x" }}\n' for index in range(count)
    )
    return EXPERT + "".join(lines)


def delegates(count: int) -> str:
    others = "".join(named(f"n{index}") for index in range(count))
    return expert(listing("delegates", count)) + others


def questions(count: int) -> str:
    return question(", ".join(f"t{index} = {{}}" for index in range(count)))


def schema(length: int) -> str:
    filling = "x" * (length - SCHEMA_LENGTH)
    return question(f"""t.inputJsonSchema = '{{"type":"object","x":"{filling}"}}'""")


LIMITS = {
    "maxSteps": (top("maxSteps = 1"), top("maxSteps = 0"), "must be 1 or more"),
    "maxRetries": (top("maxRetries = 0"), top("maxRetries = -1"), "must be 0 or more"),
    "maxToolResultCharacters": (
        top("maxToolResultCharacters = 1000"),
        top("maxToolResultCharacters = 999"),
        "must be 1000 or more",
    ),
    "timeout": (top("timeout = 1"), top("timeout = 0"), "must be 1 or more"),
    "reasoningBudget": (top("reasoningBudget = 0"), top("reasoningBudget = -1"), "0 or more"),
    "model": (top('model = "m"'), top('model = ""'), "must not be empty"),
    "perstackBaseSkillCommand": (
        top('perstackBaseSkillCommand = ["x"]'),
        top("perstackBaseSkillCommand = []"),
        "must have at least 1 entry",
    ),
    "expert name": (named("x" * 255), named("x" * 256), "more than 255 characters"),
    "expert key": (
        named("x" * 255 + "@" + "1" * 255),
        named("x" * 255 + "@" + "1" * 256),
        "more than 511 characters",
    ),
    "instruction": (instruction(20_480), instruction(20_481), "more than 20480 characters"),
    "instruction given": (instruction(1), instruction(0), "must not be empty"),
    "description": (
        expert(f'description = "{"x" * 2048}"'),
        expert(f'description = "{"x" * 2049}"'),
        "more than 2048 characters",
    ),
    "description given": (
        expert('description = "x"'),
        expert('description = ""'),
        "must not be empty",
    ),
    "version": (
        expert(f'version = "1.0.0-{"x" * 249}"'),
        expert(f'version = "1.0.0-{"x" * 250}"'),
        "more than 255 characters",
    ),
    "tags": (expert(listing("tags", 8)), expert(listing("tags", 9)), "more than 8 entries"),
    "tag": (
        expert(f'tags = ["{"x" * 255}"]'),
        expert(f'tags = ["{"x" * 256}"]'),
        "more than 255 characters",
    ),
    "delegates": (delegates(255), delegates(256), "more than 255 entries"),
    "skills": (skills(254), skills(256), "more than 255 entries"),
    "skill name": (
        expert(f'skills.{"x" * 255} = {{ type = "mcpStdioSkill", command = "x" }}'),
        expert(f'skills.{"x" * 256} = {{ type = "mcpStdioSkill", command = "x" }}'),
        "more than 255 characters",
    ),
    "rule": (
        stdio(f'rule = "{"x" * 2048}"'),
        stdio(f'rule = "{"x" * 2049}"'),
        "more than 2048 characters",
    ),
    "pick": (stdio(listing("pick", 255)), stdio(listing("pick", 256)), "more than 255 entries"),
    "omit": (stdio(listing("omit", 255)), stdio(listing("omit", 256)), "more than 255 entries"),
    "requiredEnv": (
        stdio(listing("requiredEnv", 255)),
        stdio(listing("requiredEnv", 256)),
        "more than 255 entries",
    ),
    "package": (
        stdio(f'packageName = "{"x" * 511}"'),
        stdio(f'packageName = "{"x" * 512}"'),
        "more than 511 characters",
    ),
    "endpoint": (
        remote(f'endpoint = "{URL}{"x" * (2048 - len(URL))}"'),
        remote(f'endpoint = "{URL}{"x" * (2049 - len(URL))}"'),
        "more than 2048 characters",
    ),
    "questions": (questions(255), questions(256), "more than 255 entries"),
    "inputJsonSchema": (schema(20_480), schema(20_481), "more than 20480 characters"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_holds_exactly(tmp_path: Path, limit: str) -> None:
    good, bad, reason = LIMITS[limit]

    accepted(tmp_path, good)

    (problem,) = problems(tmp_path, bad)
    assert reason in problem


WRONG_TYPES = {
    'maxSteps = "5"': "must be a whole number, not a text",
    "maxSteps = true": "must be a whole number, not true or false",
    "maxSteps = 1.0": "must be a whole number, not a number",
    "model = 5": "must be a text in quotes, not a number",
    "model = 1979-05-27": "must be a text in quotes, not a date or a time",
    "model = []": "must be a text in quotes, not a list",
    'provider = "openai"': "must be a table, not a text (write [provider] and below it",
    'experts = "a"': 'must hold tables (write [experts."name"])',
    'experts.a = "x"': 'must be a table (write [experts."a"])',
    'envPath = ".env"': "must be a list, not a text (put it in brackets: […])",
    'experts.a.instruction = ["x"]': "must be a text in quotes, not a list",
    'experts.a = { instruction = "x", skills = [] }': "must be a table, not a list",
    'experts.a = { instruction = "x", skills.s = 5 }': "must be a table, not a number",
    'experts.a = { instruction = "x", delegates = [5] }': "must be a text in quotes, not a number",
    'experts.a = { instruction = "x", defaultModelTier = "midle" }': (
        'must be one of "low", "middle", "high" (did you mean "middle"?)'
    ),
    'experts.a = { instruction = "x", version = "1.0" }': (
        'is no semantic version (write one such as "1.0.0")'
    ),
    'experts.a = { instruction = "x", minRuntimeVersion = "new" }': "is no version",
    'experts.a = { instruction = "x", tags = ["No Tag"] }': "is no tag",
    'reasoningBudget = "hgih"': '(did you mean "high"?)',
    "reasoningBudget = 1.5": "or a number of tokens that is 0 or more",
    'provider.providerName = "opnai"': '(did you mean "openai"?)',
    "provider.setting = {}": 'is missing (write providerName = "anthropic"',
    "experts.a = {}": "is missing (tell the expert what to do",
    'experts.a = { instrucion = "x" }': 'is missing (is "instrucion" meant to be it?)',
}


@pytest.mark.parametrize("text", WRONG_TYPES)
def test_a_wrong_value_is_explained_in_plain_words(tmp_path: Path, text: str) -> None:
    (problem,) = problems(tmp_path, text)

    assert problem.startswith("perstack.toml:1:")
    assert WRONG_TYPES[text] in problem
    assert "nput should" not in problem
