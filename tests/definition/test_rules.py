"""What must hold between the keys of a file, and how it is said when it does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from perstack import RUNTIME_VERSION
from tests.definition.sample import EXPERT, accepted, problems, refused, warnings


def experts(*keys: str) -> str:
    return "".join(f'[experts."{key}"]\ninstruction = "x"\n' for key in keys)


def delegating(key: str, *delegates: str) -> str:
    names = ", ".join(f'"{delegate}"' for delegate in delegates)
    return f'[experts."{key}"]\ninstruction = "x"\ndelegates = [{names}]\n'


def skill(fields: str) -> str:
    return f"{EXPERT}skills.s = {{ {fields} }}\n"


@pytest.mark.parametrize(
    ("delegator", "delegate"), [("a", "@a/x"), ("a", "b"), ("@a/x", "@a/y"), ("@a/x", "b")]
)
def test_a_delegation_within_reach_is_accepted(
    tmp_path: Path, delegator: str, delegate: str
) -> None:
    accepted(tmp_path, delegating(delegator, delegate) + experts(delegate), strict=True)


@pytest.mark.parametrize(
    ("delegator", "delegate", "reason"),
    [
        ("a", "a", "an expert cannot delegate to itself"),
        ("@a/x", "@a/x", "an expert cannot delegate to itself"),
        ("a", "@b/x", "'@b/x' may only be called by its coordinator 'b'"),
        ("@a/x", "a", "a delegate cannot delegate to its own coordinator"),
        ("@a/x", "@b/y", "'@b/y' may only be called by its coordinator 'b'"),
    ],
)
def test_a_delegation_out_of_reach_is_refused_where_it_stands(
    tmp_path: Path, delegator: str, delegate: str, reason: str
) -> None:
    others = [key for key in ("a", "b", delegate) if key != delegator]
    content = delegating(delegator, delegate) + experts(*dict.fromkeys(others))

    (problem,) = problems(tmp_path, content)

    assert problem.startswith(
        f'perstack.toml:3:14: experts."{delegator}".delegates[0]: is not allowed: {reason}'
    )


def test_coordinators_may_delegate_to_each_other(tmp_path: Path) -> None:
    accepted(tmp_path, delegating("a", "b") + delegating("b", "a"), strict=True)


def test_an_unknown_delegate_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    content = delegating("a", "@a/x", "@a/revewer") + experts("@a/x", "@a/reviewer", "@b/revewer")

    assert problems(tmp_path, content) == [
        (
            "perstack.toml:3:22: experts.\"a\".delegates[1]: '@a/revewer' is not defined"
            ' (did you mean "@a/reviewer"?)'
        )
    ]


def test_an_unknown_delegate_without_a_like_is_refused_with_what_to_add(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, delegating("a", "zebra"))

    assert problem.endswith("""'zebra' is not defined (add a table [experts."zebra"])""")


def test_a_delegate_with_a_version_is_refused_with_the_name_to_write(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, delegating("a", "b@1.0.0") + experts("b"))

    assert '(write "b"' in problem


def test_a_delegate_that_is_wrong_itself_is_not_called_unknown(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, delegating("a", "b") + '[experts."b"]\n')

    assert 'experts."b".instruction: is missing' in problem


def test_a_repeated_delegate_is_a_warning(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, delegating("a", "b", "b") + experts("b"))

    assert "perstack.toml:3:19: experts.\"a\".delegates[1]: 'b' is listed twice" in warning


def test_coordinators_with_the_same_tool_name_are_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, experts("a.b", "a_b"))

    assert problem.startswith('perstack.toml:3:10: experts."a_b": would be published as the tool')
    assert "'a.b'" in problem


def test_a_delegate_with_the_tool_name_of_another_is_a_warning(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, experts("a__b", "@a/b", "a"))

    assert "experts.\"@a/b\": would be published as the tool 'a__b'" in warning


@pytest.mark.parametrize("version", ["0.0.1", "1.0.0-alpha", "v0", "v1.0", RUNTIME_VERSION])
def test_a_runtime_version_that_this_one_reaches_is_accepted(tmp_path: Path, version: str) -> None:
    accepted(tmp_path, f'{EXPERT}minRuntimeVersion = "{version}"\n', strict=True)


@pytest.mark.parametrize(
    "version", ["99.0.0", "v99", "99.1", "99.0.0-alpha", f"{RUNTIME_VERSION[:-1]}9"]
)
def test_a_newer_runtime_version_is_refused(tmp_path: Path, version: str) -> None:
    (problem,) = problems(tmp_path, f'{EXPERT}minRuntimeVersion = "{version}"\n')

    assert f"needs the runtime {version} or newer; this one is {RUNTIME_VERSION}" in problem


def form(fields: dict[str, Any], **more: Any) -> str:
    """An interactive skill with a form."""
    schema = json.dumps({"type": "object", "properties": fields, **more})
    return f"""type = "interactiveSkill", tools.t.answerJsonSchema = '{schema}'"""


SKILLS = {
    'command = "npx", packageName = "x"': (
        'skills."s".type: is missing (write type = "mcpStdioSkill" for a local server'
    ),
    'type = "mcpStdio", command = "x"': 'skills."s".type: must be one of "mcpStdioSkill",',
    'type = "mcpStdioSkil", command = "x"': '(did you mean "mcpStdioSkill"?)',
    'type = "mcpStdioSkill", command = "npx"': "has no packageName or args (give one of them)",
    'type = "mcpStdioSkill", command = "uvx"': "has no packageName or args (give one of them)",
    'type = "mcpStdioSkill", command = "npx", packageName = "x", args = ["y"]': (
        "has both packageName and args (give only one of them)"
    ),
    'type = "mcpHttpSkill", endpoint = "https://a.com"': '(did you mean "mcpSseSkill"?)',
    'type = "mcpStdioSkill", command = "a\\u0000"': "has a NUL character",
    'type = "mcpStdioSkill"': 'skills."s".command: is missing (say what to start',
    'type = "mcpStdioSkill", command = ""': 'skills."s".command: must not be empty',
    'type = "mcpStdioSkill", command = "x", packageName = "A B"': "is no package name",
    'type = "mcpStdioSkill", command = "x", requiredEnv = ["A B"]': (
        "requiredEnv[0]: is no name of an environment variable"
    ),
    'type = "mcpStdioSkill", command = "x", allowedDomains = ["a", "xn--a.com"]': (
        "allowedDomains[1]: is a punycode domain"
    ),
    'type = "mcpStdioSkill", command = "x", allowedDomains = ["https://a.com"]': (
        "allowedDomains[0]: is no domain pattern"
    ),
    'type = "mcpSseSkill"': 'skills."s".endpoint: is missing (give the URL',
    'type = "mcpSseSkill", endpoint = "http://example.com/x"': "SSE endpoint must use HTTPS",
    'type = "mcpSseSkill", endpoint = "https://[::ffff:127.0.0.1]/x"': (
        "SSE endpoint must be a public HTTPS URL (allowPrivate = true allows"
    ),
    'type = "mcpSseSkill", endpoint = "https://a.com", headers = { A = "${B}" }': (
        "headers.A: uses the environment variable 'B', which requiredEnv does not name"
    ),
    'type = "mcpSseSkill", endpoint = "https://a.com", headers = { "A B" = "x" }': (
        'headers."A B": is no name of an HTTP header'
    ),
    'type = "mcpSseSkill", endpoint = "https://a.com", headers = { A = "x\\ny" }': (
        "headers.A: has a line break"
    ),
    'type = "interactiveSkill"': 'skills."s".tools: is missing',
    """type = "interactiveSkill", tools.t.inputJsonSchema = '{"a":}'""": (
        'tools."t".inputJsonSchema: is not JSON at character 6'
    ),
    """type = "interactiveSkill", tools.t.inputJsonSchema = '{"properties":[]}'""": (
        "has properties that are no JSON object"
    ),
    f"""type = "interactiveSkill", tools.t.inputJsonSchema = '{"[" * 5000}'""": "is not JSON",
    """type = "interactiveSkill", tools.t.inputJsonSchema = '[]'""": (
        "must be the schema of an object"
    ),
    """type = "interactiveSkill", tools.t.inputJsonSchema = '{"type":"string"}'""": (
        "must be the schema of an object"
    ),
    """type = "interactiveSkill", tools.t.answerJsonSchema = '{"a":}'""": (
        'tools."t".answerJsonSchema: is not JSON at character 6'
    ),
    """type = "interactiveSkill", tools.t.answerJsonSchema = '{"properties":{}}'""": (
        'must have "type": "object"'
    ),
    form({"age": {"type": "object"}}): "field 'age' has no type that a form can have",
    form({"age": {"type": "integer", "multipleOf": 2}}): "field 'age' has 'multipleOf', which no",
    form({"age": {"type": "integer", "minimum": "2"}}): "field 'age' has a minimum of the wrong",
    form({"tags": {"type": "array", "items": {"type": "string"}}}): "a list of free values",
    form({"tags": {"type": "array"}}): "field 'tags' is a list of what its items do not say",
    form({"a": {"type": "string", "enum": [1]}}): "field 'a' has choices that are not texts",
    form({"a": {"type": "string", "format": "regex"}}): "has a format other than date, date-time",
    form({"a": {"type": "string"}}, required=["b"]): "requires what is not one of its properties",
    form({"apiKey": {"type": "string"}}): "asks for a secret: field 'apiKey' (keys and passwords",
    form({"a": {"type": "string", "title": "Your password"}}): "asks for a secret: field 'a'",
}


@pytest.mark.parametrize("fields", SKILLS)
def test_a_skill_that_could_not_start_is_refused(tmp_path: Path, fields: str) -> None:
    (problem,) = problems(tmp_path, skill(fields))

    assert problem.startswith("perstack.toml:3:")
    assert SKILLS[fields] in problem


def test_a_private_endpoint_is_accepted_where_it_is_allowed(tmp_path: Path) -> None:
    fields = 'type = "mcpSseSkill", endpoint = "http://127.0.0.1:8080/mcp", allowPrivate = true'

    accepted(tmp_path, skill(fields), strict=True)


def test_a_header_may_use_a_variable_that_the_skill_requires(tmp_path: Path) -> None:
    fields = 'type = "mcpSseSkill", endpoint = "https://a.com", requiredEnv = ["TOKEN"], '

    accepted(tmp_path, skill(fields + 'headers = { A = "Bearer ${TOKEN}" }'), strict=True)


def test_the_base_skill_cannot_be_another_kind_of_skill(tmp_path: Path) -> None:
    content = f'{EXPERT}[experts."a".skills."@perstack/base"]\ntype = "interactiveSkill"\n'

    (problem,) = problems(tmp_path, content + "tools.x = {}\n")

    assert 'skills."@perstack/base": is the built-in skill' in problem


def test_a_question_cannot_belong_to_two_skills(tmp_path: Path) -> None:
    one = 'type = "interactiveSkill", tools.ask = {}'
    content = f"{EXPERT}skills.p = {{ {one} }}\nskills.q = {{ {one} }}\n"

    (problem,) = problems(tmp_path, content)

    assert "perstack.toml:4:47:" in problem
    assert "is also a tool of the skill 'p'" in problem


SETTINGS = {
    'setting = { region = "x" }': "setting.region: is no setting of openai (openai has baseUrl,",
    'setting = { baseUrl = "http://example.com" }': "setting.baseUrl: must use HTTPS",
    'setting = { baseUrl = "example.com" }': "setting.baseUrl: must be a URL",
    'setting = { baseUrl = "https://[" }': "setting.baseUrl: is not a URL",
    'setting = { headers = { "X:" = "y" } }': 'setting.headers."X:": is no name of an HTTP header',
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_the_provider_cannot_use_is_refused(tmp_path: Path, setting: str) -> None:
    content = f'[provider]\nproviderName = "openai"\n{setting}\n{EXPERT}'

    (problem,) = problems(tmp_path, content)

    assert problem.startswith("perstack.toml:3:")
    assert SETTINGS[setting] in problem


def test_a_wrong_type_hides_no_other_fault_of_its_table(tmp_path: Path) -> None:
    content = (
        '[provider]\nproviderName = "openai"\n'
        'setting = { headers = { A = 5, "B:" = "x" }, region = "x", baseUrl = "http://a.com" }\n'
        f'{EXPERT}skills.s = {{ type = "mcpSseSkill", endpoint = "http://a.com",'
        ' headers = { A = 5, "B:" = "${C}" } }\n'
    )

    found = [detail.key_path[-1] for detail in refused(tmp_path, content).details]

    assert found == ["A", "B:", "region", "baseUrl", "endpoint", "A", "B:", "B:"]


@pytest.mark.parametrize(
    ("provider", "url"),
    [("ollama", "http://gpu.example:11434"), ("openai", "http://127.0.0.1:8000/v1")],
)
def test_http_is_accepted_for_models_of_ones_own(tmp_path: Path, provider: str, url: str) -> None:
    content = f'[provider]\nproviderName = "{provider}"\nsetting.baseUrl = "{url}"\n{EXPERT}'

    assert accepted(tmp_path, content).definitions.provider.setting.base_url == url


def test_the_registry_must_use_https(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, f'perstackApiBaseUrl = "http://example.com"\n{EXPERT}')

    assert "perstackApiBaseUrl: must be a URL with HTTPS" in problem


def test_all_problems_are_listed_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    content = (
        'maxSteps = 0\n[provider]\nproviderName = "x"\n'
        '[experts."A"]\ninstruction = ""\n'
        '[experts."b"]\ndelegates = ["c", "b"]\n'
        'skills.s = { type = "mcpStdioSkill", command = "npx", lazyInit = 1 }\n'
        'skills.t = { type = "nothing" }\nunknown = 1\n'
    )

    error = refused(tmp_path, content)

    assert [detail.line for detail in error.details] == [1, 3, 4, 5, 6, 7, 7, 8, 8, 9]
    assert [warning.line for warning in error.warnings] == [10]
    assert error.problems == tuple(str(detail) for detail in error.details)
    assert str(error).startswith(
        f"{tmp_path / 'perstack.toml'} has 10 problems:\n  perstack.toml:1"
    )


def test_no_secret_is_repeated(tmp_path: Path) -> None:
    secret = "sk-very-secret"
    content = (
        f'maxSteps = "{secret}"\nreasoningBudget = "{secret}"\n'
        f'[provider]\nproviderName = "openai"\nname = "{secret}"\n'
        f'[provider.setting]\nbaseUrl = "http://{secret}"\nregion = "{secret}"\n'
        f'headers = {{ A = "{secret}\\n", B = 5, C = ["{secret}"] }}\nproject = ["{secret}"]\n'
        f'{EXPERT}version = "{secret}"\ndefaultModelTier = "{secret}"\n'
        f'skills.s = {{ type = "mcpSseSkill", endpoint = "ftp://{secret}/",'
        f' headers = {{ A = "{secret}\\n{secret}" }} }}\n'
        f'skills.t = {{ type = "mcpSseSkill", endpoint = "https://u:{secret}@a.com/" }}\n'
        f'skills.u = {{ type = "mcpStdioSkill", command = "npx", args = "{secret}" }}\n'
        f'skills.v = {{ type = "{secret}" }}\n'
    )

    error = refused(tmp_path, content)

    assert len(error.details) >= 10
    assert secret not in str(error)
    assert secret not in "".join(map(str, error.warnings))
    assert error.__cause__ is None


def test_a_limit_that_is_not_there_is_not_promised(tmp_path: Path) -> None:
    fields = 'type = "mcpStdioSkill", command = "x", allowedDomains = ["a.com"]'

    (warning,) = warnings(tmp_path, skill(fields))

    assert "allowedDomains: has no effect" in warning


@pytest.mark.parametrize(
    ("table", "typo", "key"),
    [
        ("budget", "maxTokn", "maxTokens"),
        ('experts."a".budget', "maxStep", "maxSteps"),
        ('models."m"', "contextWindo", "contextWindow"),
        ('models."m".price', "cacheRed", "cacheRead"),
        ('models."m".price.longInput', "abov", "above"),
    ],
)
def test_a_typo_in_a_table_of_limits_or_facts_is_named_with_the_key_that_is_meant(
    tmp_path: Path, table: str, typo: str, key: str
) -> None:
    facts = "input = 1\noutput = 2\n" if "price" in table else ""
    above = "above = 9\n" if "longInput" in table else ""
    outer = '[models."m".price]\ninput = 1\noutput = 2\n' if above else ""
    toml = f'[experts."a"]\ninstruction = "Go."\n{outer}[{table}]\n{facts}{above}{typo} = 5\n'
    (warning,) = warnings(tmp_path, toml)
    assert "is unknown and has no effect" in warning
    assert key in warning
