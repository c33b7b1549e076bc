"""`perstack diff`: two jobs side by side."""

import json
from typing import Any

from tests.cli.harness import Stage, calls, done, says


def played(here: Stage, *, answer: str = "all done", told: str = "help me", todo: str = "") -> str:
    """Let the coordinator call its delegate, and return the job's id."""
    middle = [calls("todo", newTodos=[todo])] if todo else []
    here.plays(a=[calls("x", query=told), *middle, says(answer)], a_x=[done("helped")])
    return here.runs("a", "the task").events[-1]["jobId"]


def compared(here: Stage, one: str, other: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the document."""
    out = here.types("diff", one, other, "--json", "--workspace", str(here.folder))
    return out.code, json.loads(out.stdout)


def lines(here: Stage, one: str, other: str) -> list[str]:
    return here.types("diff", one, other, "--workspace", str(here.folder)).stdout.splitlines()


def test_jobs_that_said_and_did_the_same_are_the_same(here: Stage) -> None:
    one, other = played(here), played(here)
    code, document = compared(here, one, other)
    assert (code, document["isSame"], document["first"]) == (0, True, None)
    assert lines(here, one, other)[0] == f"{one} and {other} are the same."
    assert [run["expertKey"] for run in document["runs"]] == ["a", "@a/x"]


def test_the_first_step_that_is_not_the_same_is_shown_with_its_values(here: Stage) -> None:
    one, other = played(here), played(here, answer="all gone")
    code, document = compared(here, one, other)
    assert code == 1
    assert document["first"] == {
        "expertKey": "a",
        "step": 2,
        "stepNumbers": {"a": 3, "b": 3},
        "values": [
            {"path": "text.0", "a": "all done", "b": "all gone"},
            {"path": "answer.0", "a": "all done", "b": "all gone"},
        ],
    }
    shown = lines(here, one, other)
    assert shown[:4] == [
        f"{one} and {other} part at step 2 of a.",
        "  text.0",
        "    - all done",
        "    + all gone",
    ]
    assert shown[-1].split()[0] == "@a/x"
    assert shown[-1].endswith("the same")


def test_an_argument_and_what_it_leads_to_are_found_where_they_begin(here: Stage) -> None:
    one, other = played(here), played(here, told="help him")
    _, document = compared(here, one, other)
    assert [value["path"] for value in document["first"]["values"]] == ["calls.0.args.query"]
    assert document["runs"][1]["differences"][0]["values"] == [
        {"path": "query.0", "a": "help me", "b": "help him"}
    ]


def test_a_step_that_only_one_of_them_has_is_a_difference(here: Stage) -> None:
    one, other = played(here), played(here, todo="one")
    _, document = compared(here, one, other)
    assert [step["stepNumbers"] for step in document["runs"][0]["differences"]] == [
        {"a": 3, "b": 3},
        {"a": None, "b": 4},
    ]
    assert (document["a"]["steps"], document["b"]["steps"]) == (3, 4)


def test_a_changed_instruction_is_found_at_the_step_that_it_is_given_in(here: Stage) -> None:
    one = played(here)
    config = here.folder / "perstack.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"Help."', '"Help fast."'), encoding="utf-8")
    _, document = compared(here, one, played(here))
    first = document["first"]
    assert (first["expertKey"], first["step"], first["stepNumbers"]["a"]) == ("@a/x", 1, 2)
    assert [value["path"] for value in first["values"]] == ["instruction.0"]


def test_runs_are_compared_by_themselves(here: Stage) -> None:
    one, other = played(here), played(here, answer="all gone")
    _, document = compared(here, one, other)
    delegates = (document["runs"][1][side]["runId"] for side in ("a", "b"))
    names = [f"{job}/{run}" for job, run in zip((one, other), delegates, strict=True)]
    code, document = compared(here, *names)
    assert (code, len(document["runs"])) == (0, 1)


def test_a_run_that_is_not_there_is_named(here: Stage) -> None:
    job = played(here)
    out = here.types("diff", job, f"{job}/nope", "--workspace", str(here.folder))
    assert (out.code, "Run nope not found in job" in out.stderr) == (2, True)
