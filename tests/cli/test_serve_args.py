"""`perstack serve` for many users: which arguments go together, and what they mean."""

import io
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from perstack.cli.commands import serve
from perstack.cli.main import main
from perstack.cli.serve_args import (
    auth_options_from,
    job_limits_from,
    public_hosts,
    tenant_settings_from,
)
from perstack.cli.terminal import Terminal
from perstack.definition.budget import Budget
from perstack.errors import ConfigError
from perstack.server.auth.provider import create_auth
from perstack.server.auth.token_file import TokenFileVerifier, format_entry
from perstack.server.tenants.limits import DEFAULT_MAX_JOBS, DEFAULT_MAX_TOTAL_JOBS, JobLimits
from tests.server.auth.signing import key_set, public_jwk

JWT = ("--issuer", "https://i.example", "--resource", "https://p.example:8443/mcp", "--jwks")


def parsed(*words: str) -> Namespace:
    parser = ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    path = tmp_path / "tokens.toml"
    path.touch(mode=0o600)
    path.write_text(format_entry("pst_alice", "alice", ("perstack:run",), None), encoding="utf-8")
    return str(path)


def test_without_a_word_nobody_is_asked_who_they_are() -> None:
    options = parsed("--http", "8000")
    assert create_auth(auth_options_from(options)) is None
    assert tenant_settings_from(options) is None
    assert job_limits_from(options) == JobLimits()


def test_a_file_of_tokens_is_enough(tokens: str) -> None:
    options = parsed("--tokens", tokens, "--required-scope", "perstack:run")
    auth = create_auth(auth_options_from(options))
    assert auth is not None
    assert isinstance(auth.verifier, TokenFileVerifier)
    assert auth.required_scopes == ("perstack:run",)
    assert tenant_settings_from(options) is not None


def test_users_have_limits_unless_told_otherwise(tokens: str) -> None:
    given = ("--max-jobs", "3", "--max-tokens-per-day", "5000", "--max-cost-per-day", "2.5")
    assert job_limits_from(parsed("--tokens", tokens)) == JobLimits(
        max_jobs=DEFAULT_MAX_JOBS, max_total_jobs=DEFAULT_MAX_TOTAL_JOBS
    )
    assert job_limits_from(parsed(*given)) == JobLimits(
        max_jobs=3, max_tokens_per_day=5000, max_cost_per_day=2.5
    )
    assert serve.serve_settings_from(parsed("--max-job-seconds", "60")).budget == Budget(
        max_seconds=60
    )


def test_an_issuer_is_known_by_its_keys_and_the_server_by_its_address(tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_bytes(key_set(public_jwk("ES256")))
    options = parsed(*JWT, str(keys), "--principals", str(tmp_path / "users"))
    auth, users = create_auth(auth_options_from(options)), tenant_settings_from(options)
    assert auth is not None
    assert (str(auth.issuer), str(auth.resource_url)) == (JWT[1], JWT[3])
    assert users is not None
    assert users.folder == tmp_path / "users"
    assert public_hosts(options) == ("p.example:8443",)
    assert public_hosts(parsed()) == ()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--auth", "tokens"), "--auth tokens needs --tokens FILE"),
        (("--auth", "jwt"), "needs --issuer, --resource, --jwks too"),
        (("--issuer", "https://i.example"), "needs --resource, --jwks too"),
        (("--auth", "none", "--tokens", "x"), "--tokens means nothing with --auth none"),
        (("--auth", "jwt", "--tokens", "x"), "--tokens means nothing with --auth jwt"),
        (("--tokens", "x", "--issuer", "y"), "--issuer means nothing with --auth tokens"),
        (("--required-scope", "x"), "--required-scope means nothing with --auth none"),
        (("--principals", "x"), "--principals means nothing with --auth none"),
        (("--audience", "x"), "--audience means nothing with --auth none"),
        (("--tokens", "/nowhere"), "/nowhere cannot be read"),
        ((*JWT, "/nowhere"), "/nowhere cannot be read"),
        ((*JWT, "http://i.example/jwks"), "is not an https:// address"),
        (("--issuer", "i", "--resource", "https://x", "--jwks", "x"), "--issuer 'i' is not"),
        (("--issuer", "https://i", "--resource", "p", "--jwks", "x"), "--resource 'p' is not"),
    ],
)
def test_what_does_not_go_together_is_a_readable_error(
    words: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as refused:
        create_auth(auth_options_from(parsed("--http", "8000", *words)))
    assert refused.value.hint


@pytest.mark.parametrize(
    "words", [("--tokens", "x"), ("--auth", "jwt"), ("--required-scope", "perstack:run")]
)
def test_users_are_known_over_http_only(words: tuple[str, ...]) -> None:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    assert main(["serve", *words], terminal) == 2
    assert isinstance(terminal.stderr, io.StringIO)
    assert f"{words[0]} says how a server is reached over HTTP" in terminal.stderr.getvalue()
