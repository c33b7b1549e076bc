"""The programs in docs/library.md run as they stand there."""

import subprocess
import sys
from inspect import Parameter, signature
from pathlib import Path

import pytest

import perstack
from perstack.jobs import JobView
from tests.docs.blocks import Block, blocks

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROGRAMS = [block for block in blocks(TEXT) if block.language == "python"]

DEFINITIONS = """
[provider]
providerName = "scripted"

[provider.setting]
script = "script.toml"

[experts.reader]
instruction = "Read."
delegates = ["@reader/finder"]

[experts."@reader/finder"]
description = "Finds."
instruction = "Find."

[experts.painter]
instruction = "Paint."

[experts.painter.skills.ask]
type = "interactiveSkill"

[experts.painter.skills.ask.tools.askUser]
description = "Asks."
"""
SCRIPT = """
[[experts.reader]]
toolCalls = [{ name = "finder", args = { query = "Where is it?" } }]

[[experts."@reader/finder"]]
text = "It is here."

[[experts.reader]]
toolCalls = [{ name = "attemptCompletion", args = { result = "You asked: {{query}}" } }]

[[experts.painter]]
toolCalls = [{ name = "askUser", args = { question = "Which colour?" } }]

[[experts.painter]]
text = "The wall is painted: {{lastToolResult}}"
"""
PRINTED = [
    ["completed", "You asked: What is in notes.txt?"],
    [
        "reader uses finder",
        "reader uses attemptCompletion",
        "You asked: What is in notes.txt?",
    ],
    ["askUser {'question': 'Which colour?'}", "The wall is painted: Blue."],
    ["You asked: What is in notes.txt?", "You asked: What is in todo.txt?"],
]


@pytest.mark.parametrize(
    ("program", "printed"), list(zip(PROGRAMS, PRINTED, strict=True)), ids=[0, 1, 2, 3]
)
def test_a_program_of_the_page_prints_what_it_should(
    program: Block, printed: list[str], tmp_path: Path
) -> None:
    (tmp_path / "perstack.toml").write_text(DEFINITIONS, encoding="utf-8")
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert (done.stdout.splitlines(), done.stderr) == (printed, "")


def test_the_page_names_every_keyword_and_every_field() -> None:
    parameters = signature(perstack.run).parameters.values()
    keywords = {part.name for part in parameters if part.kind is Parameter.KEYWORD_ONLY}
    fields = {"text", "job", "questions", "usage", "runs", "checkpoint", "trace_id"}
    assert fields <= {*dir(JobView)}
    assert [name for name in (keywords - {"overrides"}) | fields if f"`{name}`" not in TEXT] == []
