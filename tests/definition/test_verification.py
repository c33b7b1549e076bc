"""The checks of an expert, as they stand in the file: what is accepted, and what is not."""

from pathlib import Path

import pytest

from perstack.definition.diagnostics import InvalidDefinitionError
from perstack.definition.loader import load_definitions

HEAD = '[experts."a"]\ninstruction = "Do it."\n'
CHECK = '[[experts."a".verifications]]\n'


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "perstack.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(InvalidDefinitionError) as caught:
        load_definitions(path, strict=True)
    return [str(problem) for problem in caught.value.details]


def test_checks_are_read_with_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "perstack.toml"
    text = (
        f'{HEAD}maxVerificationAttempts = 1\n{CHECK}name = "t"\ncommand = ["pytest", "-q"]\n'
        f'{CHECK}name = "j"\nfile = "r.json"\njsonSchema = \'{{"type":"array"}}\'\n'
        'priority = "should"\n'
    )
    path.write_text(text, encoding="utf-8")
    expert = load_definitions(path, strict=True).definitions.experts["a"]
    assert expert.max_verification_attempts == 1
    tests, report = expert.verifications
    assert tests.command == ("pytest", "-q")
    assert (tests.priority, tests.expect_exit_code, tests.timeout) == ("must", 0, 300_000)
    assert (report.priority, report.file, report.json_schema) == (
        "should",
        "r.json",
        {"type": "array"},
    )


@pytest.mark.parametrize(
    ("keys", "place", "told"),
    [
        ('name = "t"', "3:15", "[0]: checks nothing"),
        (
            'name = "t"\ncommand = ["x"]\njsonSchema = {}',
            "3:15",
            "[0]: has both command and jsonSchema",
        ),
        ('command = ["x"]', "3:15", "[0].name: is missing"),
        ('name = "t"\ncommand = "pytest -q"', "5:1", "[0].command: must be a list, not a text"),
        ('name = "t"\ncommand = []', "5:1", "[0].command: must have at least 1 entry"),
        ('name = "t"\ncommand = [""]', "5:12", "[0].command[0]: must not be empty"),
        (
            'name = "t"\ncommand = ["x"]\nfile = "r"',
            "6:1",
            "[0].file: has no effect without a jsonSchema",
        ),
        (
            'name = "t"\njsonSchema = {}\nexpectOutput = "x"',
            "6:1",
            "[0].expectOutput: has no effect without a command",
        ),
        (
            'name = "t"\ncommand = ["x"]\nexpectOutput = "("',
            "6:1",
            "[0].expectOutput: is no regular expression: missing ), unterminated subpattern",
        ),
        (
            'name = "t"\ncommand = ["x"]\nexpectExitCode = 300',
            "6:1",
            "[0].expectExitCode: must be 255 or less",
        ),
        (
            'name = "t"\ncommand = ["x"]\npriority = "shoud"',
            "6:1",
            '[0].priority: must be one of "must", "should" (did you mean "should"?)',
        ),
        (
            'name = "t"\ncommand = ["x"]\nexpectExitcode = 3',
            "6:1",
            "[0].expectExitcode: is unknown and has no effect (did you mean",
        ),
        (
            'name = "t"\njsonSchema = { tpye = "object" }',
            "5:16",
            "[0].jsonSchema.tpye: is no keyword of JSON Schema 2020-12",
        ),
        (
            f'name = "t"\ncommand = ["x"]\n{CHECK}name = "t"\ncommand = ["y"]',
            "7:1",
            "[1].name: is the name of another one already",
        ),
    ],
)
def test_a_mistake_is_told_at_its_place(tmp_path: Path, keys: str, place: str, told: str) -> None:
    (problem,) = problems(tmp_path, CHECK + keys)
    assert problem.startswith(f'perstack.toml:{place}: experts."a".verifications{told}')


def test_tests_are_read_with_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "perstack.toml"
    text = f'{HEAD}[[experts."a".tests]]\nquery = "Go."\nexpect = {{ maxSeconds = 3 }}\n'
    path.write_text(text, encoding="utf-8")
    (test,) = load_definitions(path, strict=True).definitions.experts["a"].tests
    assert (test.query, test.name, test.script, test.inputs) == ("Go.", None, None, None)
    assert (test.expect.status, test.expect.max_seconds) == ("completed", 3)


@pytest.mark.parametrize(
    ("keys", "place", "told"),
    [
        ('name = "t"', "3:15", "[0]: has no query"),
        ('query = "q"\nexpect = { maxStep = 3 }', "5:12", "[0].expect.maxStep: is unknown"),
        ('query = "q"\nexpect = { maxSteps = 0 }', "5:12", "[0].expect.maxSteps: must be 1 or"),
        ('query = "q"\nexpect = { maxSeconds = 0 }', "5:12", "[0].expect.maxSeconds: must be more"),
        (
            'query = "q"\nexpect = { maxSeconds = "3" }',
            "5:12",
            "[0].expect.maxSeconds: must be a number, not a text",
        ),
        (
            'query = "q"\nexpect = { outputMatches = "[" }',
            "5:12",
            "[0].expect.outputMatches: is no regular expression",
        ),
        (
            'query = "q"\nexpect = { status = "complete" }',
            "5:12",
            "[0].expect.status: must be one of",
        ),
    ],
)
def test_a_mistake_in_a_test_is_told_at_its_place(
    tmp_path: Path, keys: str, place: str, told: str
) -> None:
    (problem,) = problems(tmp_path, f'[[experts."a".tests]]\n{keys}')
    assert problem.startswith(f'perstack.toml:{place}: experts."a".tests{told}')
