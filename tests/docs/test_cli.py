"""docs/cli.md names the commands, options and exit codes that there are, and no others."""

import re
from argparse import ArgumentParser
from pathlib import Path

import pytest

from perstack.cli import terminal
from perstack.cli.main import COMMANDS, load_command

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
SHARED = TEXT.split("## Options that several commands have")[1].split("\n## ")[0]


def section(command: str) -> str:
    """What the document says about one command."""
    return TEXT.split(f"## perstack {command}\n")[1].split("\n## ")[0]


def options(text: str) -> set[str]:
    """The options that a text names in code."""
    fenced = r"^```.*?^```$"
    spans = re.findall(fenced, text, re.MULTILINE | re.DOTALL)
    spans += re.findall(r"`([^`]+)`", re.sub(fenced, "", text, flags=re.MULTILINE | re.DOTALL))
    return {word for span in spans for word in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", span)}


def real_options(command: str) -> set[str]:
    """The options of a command, without its help."""
    parser = ArgumentParser(add_help=False)
    load_command(command).add_arguments(parser)
    return set(parser._option_string_actions)  # noqa: SLF001 - argparse has no other list


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_described(command: str) -> None:
    assert real_options(command) <= options(section(command)) | options(SHARED)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_is_described_that_is_not_there(command: str) -> None:
    assert options(section(command)) <= real_options(command)


def test_shared_options_are_real() -> None:
    everywhere = {option for command in COMMANDS for option in real_options(command)}
    assert options(SHARED) <= everywhere


def test_every_command_has_its_line_and_summary() -> None:
    for command, summary in COMMANDS.items():
        assert re.search(rf"^perstack {command}\b.*{re.escape(summary)}$", TEXT, re.MULTILINE)


def test_every_exit_code_is_described() -> None:
    codes = {value for name, value in vars(terminal).items() if name.startswith("EXIT_")}
    described = re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)
    assert {int(code) for code in described} == codes
