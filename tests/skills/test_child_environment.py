"""Which variables reach a child process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.skills.child_environment import INHERITED, child_environment, is_protected

UTF8 = {"LANG": "C.UTF-8"}
PROTECTED_NAMES = """
    PATH HOME SHELL NODE_PATH LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES DYLD_LIBRARY_PATH
    NODE_OPTIONS PYTHONPATH PERL5LIB RUBYLIB PYTHONSTARTUP PYTHONHOME PYTHONUSERBASE BASH_ENV ENV
    PERL5OPT RUBYOPT JAVA_TOOL_OPTIONS GIT_SSH_COMMAND GIT_EXTERNAL_DIFF LD_AUDIT GCONV_PATH IFS
    PROMPT_COMMAND npm_config_registry NPM_CONFIG_PREFIX GIT_CONFIG_COUNT BASH_FUNC_ls%%
    OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_TRACES_HEADERS OTEL_EXPORTER_OTLP_METRICS_HEADERS
"""
PROVIDER_KEYS = """
    ANTHROPIC_API_KEY GOOGLE_GENERATIVE_AI_API_KEY OPENAI_API_KEY FIREWORKS_API_KEY DEEPSEEK_API_KEY
    AZURE_API_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
    GOOGLE_APPLICATION_CREDENTIALS PERSTACK_API_KEY
"""


def test_a_child_inherits_only_what_is_on_the_list() -> None:
    everything = {name: f"value of {name}" for name in (*INHERITED, "DATABASE_URL", "AWS_REGION")}

    child, refused = child_environment(everything)

    assert child.keys() == INHERITED
    assert refused == ()


def test_empty_variables_are_not_passed_on() -> None:
    assert child_environment({"PATH": "/bin", "TERM": "", **UTF8})[0] == {"PATH": "/bin", **UTF8}


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ({}, {"LANG": "C.UTF-8"}),
        ({"LANG": ""}, {"LANG": "C.UTF-8"}),
        ({"LC_TIME": "de_DE"}, {"LANG": "C.UTF-8", "LC_TIME": "de_DE"}),
        ({"LANG": "C"}, {"LANG": "C", "LC_CTYPE": "C.UTF-8"}),
        (
            {"LANG": "de_DE.UTF-8", "LC_CTYPE": "POSIX"},
            {"LANG": "de_DE.UTF-8", "LC_CTYPE": "C.UTF-8"},
        ),
        ({"LANG": "ja_JP.eucJP"}, {"LANG": "ja_JP.eucJP"}),
        ({"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, {"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}),
        ({"LC_ALL": "C"}, {"LC_ALL": "C"}),
    ],
)
def test_a_child_has_the_locale_of_its_parent_or_utf8(
    parent: dict[str, str], child: dict[str, str]
) -> None:
    assert child_environment(parent)[0] == child


def test_a_required_variable_is_passed_on_and_one_without_value_is_left_out() -> None:
    environment = {"TOKEN": "t", "NAME": "", **UTF8}

    child, refused = child_environment(environment, ("TOKEN", "NAME", "OTHER"))

    assert (child, refused) == ({"TOKEN": "t", **UTF8}, ())


@pytest.mark.parametrize("name", PROVIDER_KEYS.split())
def test_a_provider_key_reaches_a_child_only_if_its_author_requires_it(name: str) -> None:
    environment = {name: "key", **UTF8}

    assert child_environment(environment) == (UTF8, ())
    assert child_environment(environment, (name,)) == ({name: "key", **UTF8}, ())
    assert child_environment(environment, extra={name: "other"}) == (UTF8, (name,))


@pytest.mark.parametrize("name", PROTECTED_NAMES.split())
def test_a_protected_name_can_be_set_by_nobody_in_any_spelling(name: str) -> None:
    for spelled in {name, name.upper(), name.lower(), name.title()}:
        child, refused = child_environment(UTF8, extra={spelled: "evil", "FINE": "1"})
        assert (child, refused) == ({"FINE": "1", **UTF8}, (spelled,))

        child, refused = child_environment({spelled: "evil", **UTF8}, (spelled,))
        if spelled not in INHERITED:
            assert (child, refused) == (UTF8, (spelled,))


def test_requiring_what_is_inherited_anyway_is_no_offence() -> None:
    assert child_environment({"PATH": "/bin", **UTF8}, ("PATH",)) == (
        {"PATH": "/bin", **UTF8},
        (),
    )


@given(
    environment=st.dictionaries(st.text(max_size=12), st.text(max_size=8)),
    required=st.lists(st.text(max_size=12)),
    extra=st.dictionaries(st.text(max_size=12), st.text(max_size=8)),
)
def test_nothing_reaches_a_child_that_nobody_asked_for(
    environment: dict[str, str], required: list[str], extra: dict[str, str]
) -> None:
    child, refused = child_environment(environment, required, extra)

    assert child.keys() <= INHERITED | set(required) | extra.keys()
    assert not [name for name in child if is_protected(name) and name not in INHERITED]
    assert set(refused) <= set(required) | extra.keys()
