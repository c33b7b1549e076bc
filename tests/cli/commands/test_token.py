"""`perstack token`: shows a token once, and makes its entry."""

import io
from pathlib import Path

import pytest

from perstack.cli.main import main
from perstack.cli.terminal import Terminal
from perstack.server.auth.token_file import TokenFileVerifier, parse_tokens
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio


def done(*words: str) -> tuple[int, str, str]:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    code = main(["token", *words], terminal)
    assert isinstance(terminal.stdout, io.StringIO)
    assert isinstance(terminal.stderr, io.StringIO)
    return code, terminal.stdout.getvalue(), terminal.stderr.getvalue()


def test_it_prints_the_token_and_the_entry() -> None:
    code, out, _ = done("--principal", "alice", "--scope", "perstack:run:writer")
    token, _, entry = out.partition("\n")
    assert code == 0
    assert token.startswith("pst_")
    assert token not in entry
    assert parse_tokens(entry.encode())[0].scopes == {"perstack:run:writer"}


async def test_it_adds_the_entry_to_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    tokens = [done("--principal", name, "--tokens", str(path))[1].strip() for name in ("a", "b")]
    assert path.stat().st_mode & 0o777 == 0o600
    known = TokenFileVerifier(path, ManualClock())
    found = [await known.verify_token(token) for token in tokens]
    assert [one and one.subject for one in found] == ["a", "b"]


@pytest.mark.parametrize(
    "words",
    [
        ("--principal", ""),
        ("--principal", "a", "--scope", "run"),
        ("--principal", "a", "--expires", "soon"),
        ("--principal", "a", "--expires", "2026-02-30"),
        ("--principal", "a", "--expires", "2020-01-01"),
        ("--principal", "a", "--expires", "2020-01-01T00:00:00+09:00"),
        ("--principal", "a", "--expires", "1960-01-01"),
        ("--principal", "a", "--expires", "0001-01-01"),
        ("--principal", "a", "--expires", ""),
        ("--principal", "a", "--tokens", "/nowhere/tokens.toml"),
    ],
)
def test_what_cannot_be_is_a_readable_error(words: tuple[str, ...]) -> None:
    code, out, err = done(*words)
    assert (code, out) == (2, "")
    assert err.startswith("perstack: ")


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        ('[experts.reader]\ninstruction = "Read."\n', 0o600, "[[token]] tables only"),
        ("[[token", 0o600, "is not TOML"),
        ("", 0o644, "others can read"),
    ],
)
def test_a_file_that_no_server_would_accept_is_left_as_it_is(
    tmp_path: Path, content: str, mode: int, complaint: str
) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    code, out, err = done("--principal", "a", "--tokens", str(path))
    assert (code, out) == (2, "")
    assert complaint in err
    assert path.read_text(encoding="utf-8") == content
