"""What a definition file says, what it leaves to defaults, and what is put right with a warning."""

import hashlib
from pathlib import Path

import pytest
import tomli

from perstack.definition.expert_tool import ExpertTool
from perstack.definition.loader import load_definitions
from perstack.definition.model import McpSseSkill, McpStdioSkill, base_skill
from tests.definition.sample import COMPLETE, EXPERT, accepted, problems, refused, warnings, write


def test_a_minimal_file_gets_every_default(tmp_path: Path) -> None:
    definitions = accepted(tmp_path, EXPERT).definitions

    assert definitions.model_dump(exclude={"experts"}, by_alias=False) == {
        "model": None,
        "provider": {
            "provider_name": "anthropic",
            "setting": {
                "base_url": None,
                "headers": {},
                "organization": None,
                "project": None,
                "name": None,
                "resource_name": None,
                "api_version": None,
                "use_deployment_based_urls": None,
                "region": None,
                "location": None,
                "script": None,
            },
        },
        "fallbacks": (),
        "tiers": {},
        "models": {},
        "compact_at": None,
        "budget": {
            "max_steps": None,
            "max_tokens": None,
            "max_cost_usd": None,
            "max_seconds": None,
            "max_delegation_depth": 16,
            "max_delegation_width": None,
            "max_repeated_calls": 5,
        },
        "reasoning_budget": "low",
        "max_steps": 100,
        "max_retries": 5,
        "timeout": 300_000,
        "max_tool_result_characters": 36_000,
        "env_path": (".env", ".env.local"),
        "perstack_api_base_url": "https://api.perstack.ai",
        "perstack_base_skill_command": None,
    }


def test_a_minimal_expert_gets_every_default_and_the_base_skill(tmp_path: Path) -> None:
    expert = accepted(tmp_path, EXPERT).definitions.experts["a"]

    assert (expert.key, expert.name, expert.is_delegate) == ("a", "a", False)
    assert expert.model_dump(exclude={"skills"}, by_alias=False) == {
        "version": "1.0.0",
        "min_runtime_version": None,
        "description": None,
        "instruction": "Do it.",
        "delegates": (),
        "tags": (),
        "default_model_tier": None,
        "budget": None,
        "tool": {**dict.fromkeys(ExpertTool.model_fields), "task_support": "optional"},
        "verifications": (),
        "max_verification_attempts": 3,
        "tests": (),
        "provider_tools": (),
        "provider_skills": (),
        "provider_tool_options": {},
    }
    assert expert.skills == {"@perstack/base": base_skill()}


def test_skills_get_their_defaults(tmp_path: Path) -> None:
    skills = (
        accepted(
            tmp_path,
            EXPERT
            + 'skills.local = { type = "mcpStdioSkill", command = "./server" }\n'
            + 'skills.remote = { type = "mcpSseSkill", endpoint = "https://example.com/mcp" }\n',
        )
        .definitions.experts["a"]
        .skills
    )

    assert list(skills) == ["@perstack/base", "local", "remote"]
    assert skills["local"] == McpStdioSkill(
        type="mcpStdioSkill",
        command="./server",
        description=None,
        rule=None,
        package_name=None,
        args=(),
        pick=(),
        omit=(),
        required_env=(),
        allowed_domains=(),
        lazy_init=False,
    )
    assert skills["remote"] == McpSseSkill(
        type="mcpSseSkill", endpoint="https://example.com/mcp", headers={}, allow_private=False
    )


def test_every_key_of_a_complete_file_arrives(tmp_path: Path) -> None:
    loaded = accepted(tmp_path, COMPLETE, strict=True)
    definitions = loaded.definitions
    reviewer, file = definitions.experts.values()

    assert loaded.warnings == ()
    assert (definitions.model, definitions.max_steps, definitions.timeout) == (
        "claude-sonnet-4-5",
        50,
        120_000,
    )
    assert definitions.provider.setting.headers == {"X-Team": "qa"}
    assert (reviewer.version, reviewer.tags, reviewer.default_model_tier) == (
        "1.2.0",
        ("stable",),
        "high",
    )
    assert reviewer.delegates == ("@reviewer/file",)
    base = reviewer.skills["@perstack/base"]
    assert isinstance(base, McpStdioSkill)
    assert base.pick == ("readTextFile", "exec", "attemptCompletion")
    assert (file.name, file.is_delegate) == ("@reviewer/file", True)
    assert definitions.coordinators() == (reviewer,)


def test_the_snapshot_knows_its_file_and_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, COMPLETE)

    loaded = load_definitions(path)

    assert loaded.path == loaded.definitions.path == path
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_keys_that_slipped_into_the_provider_table_are_honoured(tmp_path: Path) -> None:
    content = (
        '[provider]\nproviderName = "openai"\nmodel = "gpt-5"\nmaxSteps = 7\nmaxRetries = 1\n'
        f'timeout = 9000\nreasoningBudget = "high"\n{EXPERT}'
    )

    loaded = accepted(tmp_path, content)

    definitions = loaded.definitions
    assert (definitions.provider.provider_name, definitions.model) == ("openai", "gpt-5")
    assert (definitions.max_steps, definitions.max_retries) == (7, 1)
    assert (definitions.timeout, definitions.reasoning_budget) == (9000, "high")
    assert [(warning.line, warning.key_path) for warning in loaded.warnings] == [
        (3, ("provider", "model")),
        (4, ("provider", "maxSteps")),
        (5, ("provider", "maxRetries")),
        (6, ("provider", "timeout")),
        (7, ("provider", "reasoningBudget")),
    ]
    assert all("above the first [table]" in str(warning) for warning in loaded.warnings)


def test_a_misplaced_key_gives_way_to_the_one_at_the_top(tmp_path: Path) -> None:
    content = f'maxSteps = 3\n[provider]\nproviderName = "openai"\nmaxSteps = 7\n{EXPERT}'

    loaded = accepted(tmp_path, content)

    assert loaded.definitions.max_steps == 3
    (warning,) = loaded.warnings
    assert (warning.line, warning.suggestion) == (4, "remove it")
    assert warning.reason == "has no effect: maxSteps is set at the top of the file"


def test_a_wrong_value_of_a_misplaced_key_is_shown_where_it_stands(tmp_path: Path) -> None:
    content = f'[provider]\nproviderName = "openai"\nmaxSteps = 0\n{EXPERT}'

    assert problems(tmp_path, content) == [
        "perstack.toml:3:1: provider.maxSteps: must be 1 or more"
    ]


def test_retired_keys_are_accepted_and_named(tmp_path: Path) -> None:
    content = 'runtime = "docker"\ntemperature = 0.3\n[provider]\nproviderName = "openai"\n'
    content += f"temperature = 1\n{EXPERT}"

    found = warnings(tmp_path, content)

    assert [text.split(": ")[1] for text in found] == [
        "runtime",
        "temperature",
        "provider.temperature",
    ]
    assert all("has no effect any more" in text for text in found)


@pytest.mark.parametrize(
    ("content", "warning"),
    [
        ("maxStep = 5\n" + EXPERT, '1:1: maxStep: unknown (did you mean "maxSteps"?)'),
        ("max_steps = 5\n" + EXPERT, '1:1: max_steps: unknown (did you mean "maxSteps"?)'),
        ('path = "x"\n' + EXPERT, "1:1: path: unknown"),
        (EXPERT + 'key = "x"\n', '3:1: experts."a".key: unknown'),
        (
            EXPERT + "delegate = []\n",
            '3:1: experts."a".delegate: unknown (did you mean "delegates"?)',
        ),
        (
            EXPERT + "envPath = []\n",
            '3:1: experts."a".envPath: unknown (move it above the first [table])',
        ),
        (
            'instruction = "x"\n' + EXPERT,
            '1:1: instruction: unknown (it belongs to [experts."name"])',
        ),
        (
            '[provider]\nproviderName = "openai"\nbaseUrl = "https://x.example"\n' + EXPERT,
            "3:1: provider.baseUrl: unknown (it belongs to [provider.setting])",
        ),
        (
            EXPERT + 'skills.s = { type = "mcpStdioSkill", command = "x", endpoint = "y" }\n',
            '3:53: experts."a".skills."s".endpoint: unknown (it belongs to a skill with type',
        ),
        (
            EXPERT + 'skills.s = { type = "interactiveSkill", tools = { t = { desc = "" } } }\n',
            '3:57: experts."a".skills."s".tools."t".desc: unknown',
        ),
    ],
)
def test_an_unknown_key_is_a_warning_that_says_where_it_belongs(
    tmp_path: Path, content: str, warning: str
) -> None:
    expected = warning.replace("unknown", "is unknown and has no effect", 1)

    (found,) = warnings(tmp_path, content)

    assert found.startswith(f"perstack.toml:{expected}")


def test_an_unknown_key_is_an_error_when_strict(tmp_path: Path) -> None:
    error = refused(tmp_path, "maxStep = 5\n" + EXPERT, strict=True)

    assert error.problems == (
        'perstack.toml:1:1: maxStep: is unknown and has no effect (did you mean "maxSteps"?)',
    )


def test_keys_of_headers_are_free(tmp_path: Path) -> None:
    content = (
        '[provider]\nproviderName = "openai"\nsetting = { headers = { anything = "x" } }\n' + EXPERT
    )

    loaded = accepted(tmp_path, content)

    assert not any("is unknown" in str(warning) for warning in loaded.warnings)


@pytest.mark.parametrize(
    "content",
    ["", "\n", "# nothing\n", 'model = "x"\n', "[experts]\n", "experts = {}\n"],
)
def test_a_file_without_experts_says_what_to_write(tmp_path: Path, content: str) -> None:
    (found,) = warnings(tmp_path, content)

    assert "defines no expert" in found
    assert '[experts."my-expert"]' in found
    assert accepted(tmp_path, content).definitions.experts == {}


def test_what_the_warning_about_missing_experts_says_is_itself_good(tmp_path: Path) -> None:
    (found,) = warnings(tmp_path, "")
    line = found.split("write a table ")[1].rstrip(")")
    content = line.replace(" with ", "\n").replace(" and ", "\n")

    assert list(tomli.loads(content)["experts"]) == ["my-expert"]
    assert warnings(tmp_path, content) == []
