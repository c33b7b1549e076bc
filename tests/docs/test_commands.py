"""Every command on every page is one that there is, and does what it says it does."""

import io
import re
import shutil
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perstack.cli.main import COMMANDS, build_parser, load_command
from tests.cli.harness import Outcome, Stage
from tests.docs.written import WRITTEN, Written

OTHER_PROGRAMS = {"claude", "docker", "git", "jq", "pip", "scripts/demo", "scripts/test"}
STAYS = {"serve", "demo"}
"""They do not end by themselves, or take long: what the README says of them is tried elsewhere."""

OWN = [(each, words[1:]) for each in WRITTEN for words in each.programs if words[0] == "perstack"]
ENDING = [(each, words) for each, words in OWN if words[0] not in STAYS]

DEFINITIONS = """
[provider]
providerName = "scripted"

[provider.setting]
script = "script.toml"

[experts.reader]
instruction = "Read."

[experts.reviewer]
instruction = "Review."

[experts.reviewer.skills.user]
type = "interactiveSkill"

[experts.reviewer.skills.user.tools.askColour]

[experts.builder]
instruction = "Write."

[[experts.builder.tests]]
name = "greets"
query = "Greet the world."
script = "tests/greets.toml"
expect = { outputMatches = "done" }
"""
QUESTIONS = ("askColour", "askColour")
WORK = ("clearTodo",) * 3
STEP = """
[[experts.{expert}]]
toolCalls = [{{ name = "{tool}", args = {{ question = "Which?" }} }}]
"""
END = """
[[experts.{expert}]]
text = "done"
"""


def script(expert: str, *tools: str) -> str:
    """Replies of an expert that calls tools and then ends again and again."""
    steps = "".join(STEP.format(expert=expert, tool=tool) for tool in tools)
    return steps + END.format(expert=expert) * 12


@dataclass(slots=True)
class Reader:
    """Someone who types the commands of a page in a folder, in order.

    Attributes:
        stage: The folder.
        places: What stands for the names that a page leaves to its reader, such as `JOB`.
    """

    stage: Stage
    places: dict[str, str]

    def types(self, *words: str) -> Outcome:
        self.stage.stdin = io.StringIO("diff --git a b")
        names = "|".join(sorted(self.places, key=len, reverse=True))
        return self.stage.types(
            *(
                re.sub(rf"\b({names})\b", lambda found: self.places[found[1]], each)
                for each in words
            )
        )

    def begins(self, *reviewing: str) -> dict[str, Any]:
        """Begin a job whose expert calls these tools; returns its last event."""
        self.plays(*reviewing)
        return self.types("run", "reviewer", "Review it").events[-1]

    def plays(self, *reviewing: str) -> None:
        replies = script("reader") + script("builder") + script("reviewer", *reviewing)
        (self.stage.folder / "script.toml").write_text(replies, encoding="utf-8")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    folder = tmp_path / "work"
    for name in (folder / "src", folder / "tests", tmp_path / "there"):
        name.mkdir(parents=True)
    for name in ("perstack.toml", "old.toml"):
        (folder / name).write_text(DEFINITIONS, encoding="utf-8")
    (folder / "tests" / "greets.toml").write_text(script("builder"), encoding="utf-8")
    monkeypatch.chdir(folder)
    one = Reader(Stage(folder), {"NAME": "scripted"})
    one.plays()
    one.types("run", "reader", "Read.", "--workspace", "../there")
    one.types("export", "--files", "old/perstack", "--workspace", "../there")
    waiting = one.begins(*QUESTIONS)
    first, second = one.begins(*WORK), one.begins(*WORK)
    one.places |= {
        "WAITING": waiting["jobId"],
        "JOB": first["jobId"],
        "ID": first["checkpoint"]["id"],
        "JOB-A": first["jobId"],
        "JOB-B": second["jobId"],
        "RUN": first["runId"],
        "JOB-B/RUN": f"{second['jobId']}/{second['runId']}",
    }
    return one


def follow(reader: Reader, words: list[str]) -> Outcome:
    """Type a command, with what the page has its reader do or have before."""
    folder = reader.stage.folder
    is_answer = "-i" in words
    reader.plays(*(QUESTIONS if is_answer else WORK))
    if is_answer:
        words = ["WAITING" if word == "JOB" else word for word in words]
    if words[0] == "import":
        for name in ("one.perstack", "two.perstack"):
            shutil.copy(folder / "review.perstack", folder / name)
    out = reader.types(*words)
    if words[0] == "fork" and out.events:
        reader.places["FORK"] = out.events[-1]["runId"]
    return out


def is_good(words: list[str], out: Outcome) -> bool:
    # `diff` tells by 1 that two jobs differ, and `run` by 3 that one more question waits.
    allowed = {"diff": {0, 1}, "run": {0, 3} if "-i" in words else {0}}
    return out.code in allowed.get(words[0], {0})


def test_there_are_commands_of_every_kind() -> None:
    assert len(OWN) > 50
    assert {*COMMANDS} - {words[0] for _, words in OWN} <= {"demo"}


@pytest.mark.parametrize(("written", "words"), OWN, ids=lambda part: str(part)[:80])
def test_a_command_of_a_page_can_be_typed(written: Written, words: list[str]) -> None:
    parser = build_parser(words[0], load_command(words[0]))
    assert isinstance(parser.parse_args(words), Namespace), written


@pytest.mark.parametrize("page", sorted({written.page for written, _ in ENDING}))
def test_the_commands_of_a_page_work_one_after_the_other(page: str, reader: Reader) -> None:
    failed: list[tuple[Written, Outcome]] = []
    for written, words in ENDING:
        if written.page == page:
            out = follow(reader, words)
            failed += [] if is_good(words, out) else [(written, out)]
    assert [(w.text, o.code, o.stderr) for w, o in failed] == []


def test_other_programs_are_few() -> None:
    others = {words[0] for each in WRITTEN for words in each.programs if words[0] != "perstack"}
    assert others <= OTHER_PROGRAMS
