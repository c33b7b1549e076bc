"""What each scope allows, and who a token speaks for."""

import pytest

from perstack.server.auth.scopes import is_scope, principal_id
from perstack.server.caller import LOCAL_PRINCIPAL, Caller


def caller(*scopes: str) -> Caller:
    return Caller(principal="alice-1", scopes=frozenset(scopes))


@pytest.mark.parametrize(
    ("scopes", "a", "b", "reads", "cancels"),
    [
        ((), False, False, False, False),
        (("perstack:run",), True, True, True, True),
        (("perstack:run:@team/a",), True, False, False, False),
        (("perstack:run:@team/a", "perstack:run:b"), True, True, False, False),
        (("perstack:run:@team/a", "perstack:jobs.read"), True, False, True, False),
        (("perstack:jobs.read",), False, False, True, False),
        (("perstack:jobs.cancel",), False, False, False, True),
        (("perstack:admin",), True, True, True, True),
        (("perstack:run:", "perstack:", "run", "perstack:run:*"), False, False, False, False),
    ],
)
def test_a_scope_allows_what_it_names_and_nothing_else(
    scopes: tuple[str, ...], *, a: bool, b: bool, reads: bool, cancels: bool
) -> None:
    present = caller(*scopes)
    assert (present.may_run("@team/a"), present.may_run("b")) == (a, b)
    assert (present.may_read_jobs, present.may_cancel_jobs) == (reads, cancels)


def test_without_authentication_everything_is_allowed() -> None:
    local = Caller()
    assert local.principal == LOCAL_PRINCIPAL
    assert local.may_run("anything")
    assert local.may_read_jobs
    assert local.may_cancel_jobs


@pytest.mark.parametrize(
    ("scope", "known"),
    [
        ("perstack:run", True),
        ("perstack:run:x", True),
        ("perstack:admin", True),
        ("perstack:run:", False),
        ("perstack:jobs", False),
        ("openid", False),
    ],
)
def test_a_scope_that_allows_nothing_is_told_from_one_that_does(scope: str, *, known: bool) -> None:
    assert is_scope(scope) is known


def test_a_principal_is_readable_safe_as_a_folder_and_belongs_to_one_issuer() -> None:
    one = principal_id("https://issuer.example", "Alice Müller/../x")
    assert one.startswith("alice-muller-x-")
    assert one == principal_id("https://issuer.example", "Alice Müller/../x")
    assert one != principal_id("https://other.example", "Alice Müller/../x")
    assert principal_id("", "") != LOCAL_PRINCIPAL
    assert principal_id("i", "\N{SNOWMAN}").startswith("user-")
    assert principal_id("ab", "c") != principal_id("a", "bc")


def test_a_lone_surrogate_in_a_subject_still_gives_an_id() -> None:
    assert principal_id("i", "\ud800").startswith("user-")
