import pytest

from perstack.redaction import MIN_SECRET_LENGTH, Redactor, redact_command_line


def test_a_secret_is_found_in_the_forms_json_and_urls_give_it() -> None:
    redactor = Redactor(['pass"word/é'])

    for form in ('pass"word/é', 'pass\\"word/é', 'pass\\"word/\\u00e9', "pass%22word%2F%C3%A9"):
        assert redactor.redact(f"<{form}>") == "<[redacted]>"


def test_a_value_shorter_than_the_minimum_is_not_redacted() -> None:
    assert Redactor(["x" * (MIN_SECRET_LENGTH - 1)]).redact("xxxxx") == "xxxxx"


def test_a_blank_value_is_not_redacted() -> None:
    assert Redactor([" " * 10]).redact("a" + " " * 10 + "b") == "a" + " " * 10 + "b"


def test_each_secret_keeps_its_own_label() -> None:
    redactor = Redactor(["first-secret"], "***")
    redactor.add(["other-secret"])

    assert redactor.redact("first-secret other-secret") == "*** [redacted]"


def test_a_variable_that_is_not_unicode_is_redacted() -> None:
    redactor = Redactor.of_variables({"API_TOKEN": "secret-\udcff"})

    assert redactor.redact("is secret-\udcff") == "is [API_TOKEN]"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--api-key=abc"], ["--api-key=[redacted]"]),
        (["--api-key=-a b;c"], ["--api-key=[redacted]"]),
        (["--apiKey", "abc", "--port", "80"], ["--apiKey", "[redacted]", "--port", "80"]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (["-e", "GITHUB_TOKEN=abc", "image"], ["-e", "GITHUB_TOKEN=[redacted]", "image"]),
        (["-H", "X-Api-Key: abc"], ["-H", "X-Api-Key: [redacted]"]),
        (
            ["--header", "authorization: Bearer a.b"],
            ["--header", "authorization: Bearer [redacted]"],
        ),
        (["postgres://me:abc@db/x"], ["postgres://me:[redacted]@db/x"]),
        (["https://x/mcp?a=1&api_key=abc&b=2"], ["https://x/mcp?a=1&api_key=[redacted]&b=2"]),
        (["Server=db;Password=abc;Port=1"], ["Server=db;Password=[redacted];Port=1"]),
        (['{"secret": "a b", "n": 1}'], ['{"secret": "[redacted]", "n": 1}']),
        (["-c", "go --token abc 'x'"], ["-c", "go --token [redacted] 'x'"]),
        (["-c", "look at the key and wait"], ["-c", "look at the key and wait"]),
        (
            ["https://host:8080/key/x", "--max-tokens", "9"],
            ["https://host:8080/key/x", "--max-tokens", "9"],
        ),
    ],
)
def test_a_command_line_is_shown_without_the_values_of_secret_names(
    words: list[str], shown: list[str]
) -> None:
    assert redact_command_line(words) == tuple(shown)
