"""Every command finds the `.env` files of a definition file in the same places."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.harness import process

DEFINITIONS = """
[provider]
providerName = "openai"
setting.baseUrl = "http://127.0.0.1:9/v1"

[experts.a]
instruction = "Work."

[[experts.a.tests]]
query = "Do it."
"""
COMMANDS = {
    "check": ("check",),
    "run": ("run", "a", "Do it.", "--max-retries", "0"),
    "test": ("test", "--max-retries", "0"),
}
KEY = "OPENAI_API_KEY"
NAMED = ("--env-path", "keys.env")
PLACES = {
    "here": ("here/.env", ()),
    "here, the local file": ("here/.env.local", ()),
    "beside the definition file": ("there/.env", ()),
    "beside the definition file, the local file": ("there/.env.local", ()),
    "a named one here": ("here/keys.env", NAMED),
    "a named one beside the definition file": ("there/keys.env", NAMED),
}
HIDDEN = {
    "above": (".env", ()),
    "not named": ("here/.env", NAMED),
    "with another name": ("there/keys.env", ()),
}


def output(folder: Path, command: str, file: str, options: Sequence[str]) -> str:
    for name in ("here", "there"):
        (folder / name).mkdir()
    (folder / "there/perstack.toml").write_text(DEFINITIONS, encoding="utf-8")
    (folder / file).write_text(f"{KEY}=sk-invented\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != KEY}
    words = (*COMMANDS[command], "--config", "../there/perstack.toml", *options)
    outcome = process(*words, cwd=folder / "here", environment=environment)
    return outcome.stdout + outcome.stderr


def says_that_the_key_is_missing(text: str) -> bool:
    return f"{KEY} is not set" in text or f"{KEY} is NOT set" in text or "'keys.env' is" in text


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_key_is_found(tmp_path: Path, command: str, place: str) -> None:
    assert not says_that_the_key_is_missing(output(tmp_path, command, *PLACES[place]))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", HIDDEN)
def test_a_key_is_not_found(tmp_path: Path, command: str, place: str) -> None:
    assert says_that_the_key_is_missing(output(tmp_path, command, *HIDDEN[place]))
