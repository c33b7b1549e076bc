"""Settings with which OpenTelemetry's API would not load."""

import pytest

from perstack.telemetry.environment import remove_unusable_settings


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("b3", "tracecontext,baggage"),
        ("tracecontext, baggage,b3multi", "tracecontext,baggage"),
        ("tracecontext", "tracecontext"),
        (" ", " "),
    ],
)
def test_only_propagators_that_are_installed_are_kept(given: str, kept: str) -> None:
    environment = {"OTEL_PROPAGATORS": given}
    problems = remove_unusable_settings(environment)
    assert environment == {"OTEL_PROPAGATORS": kept}
    assert bool(problems) is ("b3" in given)
    assert all("b3" in problem and "using" in problem for problem in problems)


def test_a_limit_that_is_no_number_is_left_to_its_default() -> None:
    environment = {
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "-1",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "12",
        "MY_LIMIT": "many",
    }
    problems = remove_unusable_settings(environment)
    assert environment == {"OTEL_SPAN_LINK_COUNT_LIMIT": "12", "MY_LIMIT": "many"}
    assert len(problems) == 2
