"""`perstack replay --as-script`: a stored job becomes a script that plays it again."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from perstack.llm.scripted.script import Script
from perstack.llm.scripted.script_text import script_json, script_toml
from tests.cli.harness import DEFINITIONS, Stage, calls, done, stage

BUSY = {"status": 429, "message": "busy", "retryAfterSeconds": 0, "times": 2}


def told(here: Stage, name: str, *words: str) -> None:
    """Write the script of the latest job to a file."""
    out = here.types("replay", "--as-script", *words, "--workspace", str(here.folder))
    assert out.code == 0, out.stderr
    (here.folder / name).write_text(out.stdout, encoding="utf-8")


def asking_twice() -> list[dict[str, Any]]:
    first = {"name": "x", "args": {"query": "one"}}
    second = {"name": "x", "args": {"query": "two"}}
    return [
        {"text": 'So:\n"it"\n\\n begins', "toolCalls": [first, second], "error": BUSY},
        calls("todo", newTodos=["a\tb", "c"]),
        calls("clearTodo"),
        done("over"),
    ]


def both_helped() -> list[dict[str, Any]]:
    return [
        {"query": "one", **done("first")},
        {"query": "two", "thinking": "hm", **calls("readTextFile", path="no.txt")},
        {"query": "two", **done("second")},
    ]


@pytest.mark.parametrize("name", ["script.toml", "again.json"])
def test_a_job_that_plays_the_script_of_another_does_the_same(here: Stage, name: str) -> None:
    here.plays(a=asking_twice(), a_x=both_helped())
    one = here.runs("a", "the task").events[-1]["jobId"]
    told(here, name, *(["--json"] if name.endswith(".json") else []))
    (here.folder / "perstack.toml").write_text(
        DEFINITIONS.replace("script.json", name), encoding="utf-8"
    )
    (here.folder / "script.json").unlink()
    other = here.runs("a", "the task").events[-1]["jobId"]
    out = here.types("diff", one, other, "--json", "--workspace", str(here.folder))
    document = json.loads(out.stdout)
    assert (out.code, document["first"]) == (0, None)
    assert document["a"]["usage"] == document["b"]["usage"]
    assert document["a"]["text"] == "over"


def test_a_conversation_that_went_on_is_played_as_a_whole(here: Stage) -> None:
    here.plays(a=[done("one"), done("two")])
    job = here.runs("a", "the task").events[-1]["jobId"]
    here.runs("a", "more", "--continue-job", job)
    told(here, "told.toml")
    script = tomllib.loads((here.folder / "told.toml").read_text(encoding="utf-8"))
    results = [reply["toolCalls"][0]["args"]["result"] for reply in script["experts"]["a"]]
    assert results == ["one", "two"]


def test_what_toml_cannot_say_is_said_in_json(tmp_path: Path) -> None:
    here = stage(tmp_path)
    here.plays(a=[calls("todo", newTodos=None), done("over")])
    here.runs("a", "the task")
    out = here.types("replay", "--as-script", "--workspace", str(here.folder))
    assert (out.code, "null" in out.stderr, "--json" in out.stderr) == (2, True, True)
    told(here, "told.json", "--json")


def test_any_text_survives_the_way_through_a_file() -> None:
    texts = ['"', '""" and \\', 'a\n"""', "a\n\x07\x7f\r\n", "é\n\\u0041", "", 'ends\n"']
    script = Script.model_validate({"experts": {"a b": [{"text": text} for text in texts]}})
    assert Script.model_validate(tomllib.loads(script_toml(script))) == script
    assert Script.model_validate(json.loads(script_json(script))) == script
