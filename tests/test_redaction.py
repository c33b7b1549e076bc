from perstack.redaction import MIN_SECRET_LENGTH, Redactor


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
