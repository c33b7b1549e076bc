"""The file of tokens: who is let in by it, and when it is not trusted."""

import datetime as dt
import hashlib
from pathlib import Path

import pytest

from perstack.errors import ConfigError
from perstack.server.auth.token_file import (
    TokenFileVerifier,
    format_entry,
    generate_token,
    parse_tokens,
)
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio

ALICE, BOB = "pst_alice", "pst_bob"
NOW = "2023-11-14T22:13:20+00:00"


def entry(token: str, principal: str, **more: str) -> str:
    lines = [f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"']
    lines.append(f'principal = "{principal}"')
    lines += [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(["[[token]]", *lines, ""])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.touch(mode=0o600)
    path.write_text(
        entry(ALICE, "alice") + entry(BOB, "bob", scopes='["perstack:run:writer"]'),
        encoding="utf-8",
    )
    return path


async def test_a_token_of_the_file_tells_who_it_speaks_for_and_is_not_kept(path: Path) -> None:
    tokens = TokenFileVerifier(path, ManualClock())
    alice, bob = await tokens.verify_token(ALICE), await tokens.verify_token(BOB)
    assert alice is not None
    assert bob is not None
    assert (alice.subject, alice.scopes, alice.token) == ("alice", ["perstack:run"], "")
    assert (bob.subject, bob.scopes) == ("bob", ["perstack:run:writer"])


@pytest.mark.parametrize(
    "token", ["", "pst_", ALICE + " ", ALICE.upper(), "x" * 100_000, "\udcff", "ä"]
)
async def test_any_other_is_refused(path: Path, token: str) -> None:
    assert await TokenFileVerifier(path, ManualClock()).verify_token(token) is None


async def test_the_hash_of_a_token_lets_nobody_in(path: Path) -> None:
    digest = hashlib.sha256(ALICE.encode()).hexdigest()
    assert await TokenFileVerifier(path, ManualClock()).verify_token(digest) is None


@pytest.mark.parametrize(
    ("expires", "left"),
    [
        ('"2024-01-01"', True),
        ("2024-01-01", True),
        ("2024-01-01T00:00:00Z", True),
        ("2023-11-15T00:13:30+02:00", True),
        ("2023-11-14T22:13:10Z", False),
        ('"2023-11-14"', False),
    ],
)
async def test_a_token_may_expire(path: Path, expires: str, *, left: bool) -> None:
    clock = ManualClock()
    assert (
        dt.datetime.fromtimestamp(clock.now / 1000, dt.UTC)
        .isoformat()
        .startswith("2023-11-14T22:13:20")
    )
    path.write_text(entry(ALICE, "alice", expires=expires), encoding="utf-8")
    tokens = TokenFileVerifier(path, clock)
    found = await tokens.verify_token(ALICE)
    assert (found is not None) is left
    assert found is None or found.expires_at in (1_704_067_200, 1_700_000_010)
    clock.now += 90 * 24 * 3600 * 1000
    assert await tokens.verify_token(ALICE) is None


async def test_an_edit_counts_at_once(path: Path) -> None:
    tokens = TokenFileVerifier(path, ManualClock())
    path.write_text(entry(BOB, "bob"), encoding="utf-8")
    assert await tokens.verify_token(ALICE) is None
    assert await tokens.verify_token(BOB) is not None


async def test_while_the_file_is_broken_or_gone_nobody_is_let_in(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, content = TokenFileVerifier(path, ManualClock()), path.read_text(encoding="utf-8")
    for content_then in ("[[token", None):
        if content_then is None:
            path.unlink()
        else:
            path.write_text(content_then, encoding="utf-8")
        for _ in range(3):
            assert await tokens.verify_token(ALICE) is None
    complaints = [record.message for record in caplog.records if "Until it" in record.message]
    assert ["is not TOML" in one for one in complaints] == [True, False]
    assert "cannot be read" in complaints[1]
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    assert await tokens.verify_token(ALICE) is not None
    assert "is in order again" in caplog.text


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o620])
async def test_a_file_that_others_can_read_or_change_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(ConfigError, match=r"tokens\.toml: others can read.*chmod 600"):
        TokenFileVerifier(path, ManualClock())


async def test_permissions_count_at_once_when_they_change(path: Path) -> None:
    tokens = TokenFileVerifier(path, ManualClock())
    path.chmod(0o644)
    assert await tokens.verify_token(ALICE) is None
    path.chmod(0o600)
    assert await tokens.verify_token(ALICE) is not None


async def test_a_group_may_read_it_as_containers_need(path: Path) -> None:
    path.chmod(0o440)
    assert await TokenFileVerifier(path, ManualClock()).verify_token(ALICE) is not None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[token]\n", "must hold .*token.* tables only"),
        ("x = 1\n", "must hold"),
        ("token = [1]\n", "must hold"),
        ("[[token]]\n", "token 1: sha256"),
        (entry(ALICE, "alice") + entry(BOB, ""), "token 2: principal"),
        (entry(ALICE, "a" * 129), "token 1: principal"),
        (entry(ALICE, "a", scopes='["perstack:runs"]'), "'perstack:runs', which is none of"),
        (entry(ALICE, "a", scopes='"perstack:all"'), "'perstack:all', which is none of"),
        (entry(ALICE, "a", scopes="[1]"), "has 1"),
        (entry(ALICE, "a", expires='"soon"'), "expires must be a date"),
        (entry(ALICE, "a", expires="5"), "expires must be a date"),
        (entry(ALICE, "a", secret='"pst_alice"'), "secret is not known"),
        (entry(ALICE, "a") + entry(ALICE, "b"), "two entries have the same sha256"),
        ('[[token]]\nsha256 = "zz"\nprincipal = "a"\n', "64 hexadecimal digits"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refused:
        parse_tokens(content.encode())
    assert hashlib.sha256(ALICE.encode()).hexdigest() not in str(refused.value)


def test_a_file_without_tokens_is_a_file() -> None:
    assert parse_tokens(b"") == ()


@pytest.mark.parametrize("principal", ["alice", 'al"ice\\', "Ali\tce\x7f", "アリス"])
def test_a_new_token_is_known_by_its_entry(principal: str) -> None:
    token = generate_token()
    entries = parse_tokens(
        format_entry(token, principal, ("perstack:admin",), "2027-01-01").encode()
    )
    assert [entry.principal for entry in entries] == [principal]
    assert entries[0].digest == hashlib.sha256(token.encode()).digest()
    assert generate_token() != token
    assert len(token) > 40
