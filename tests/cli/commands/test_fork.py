"""`perstack fork`: a job taken up again at one of its steps."""

import json
from typing import Any

from tests.cli.harness import Outcome, Stage, calls, done


def finished(here: Stage) -> str:
    """A job of three steps: two notes and an answer."""
    here.plays(a=[calls("todo", newTodos=["one"]), calls("clearTodo"), done("trunk")])
    return here.runs("a", "the task").events[-1]["jobId"]


def forked(here: Stage, *words: str) -> Outcome:
    return here.types("fork", *words, *here.files)


def answer(out: Outcome) -> str:
    (text,) = (event["text"] for event in out.events if event["type"] == "completeRun")
    return text


def log(here: Stage, job: str) -> dict[str, Any]:
    return json.loads(here.logs("--job", job, "--json", "--take", "0").stdout)


def test_a_fork_goes_on_from_the_end_of_a_step_and_leaves_the_trunk_alone(here: Stage) -> None:
    job = finished(here)
    trunk = log(here, job)
    here.plays(a=[calls("todo"), calls("clearTodo"), done("branch")])
    out = forked(here, f"{job}@1")
    now = log(here, job)
    assert (out.code, answer(out)) == (0, "branch")
    assert now["events"][: len(trunk["events"])] == trunk["events"]
    assert [run["status"] for run in now["runs"]] == ["completed", "completed"]
    begin = next(event for event in out.events if event["type"] == "startRun")
    last = [event["id"] for event in trunk["events"] if event["stepNumber"] == 1][-1]
    assert begin["initialCheckpoint"]["parentCheckpointId"] == last
    assert [message["type"] for message in begin["initialCheckpoint"]["messages"]] == [
        "instructionMessage",
        "userMessage",
        "expertMessage",
        "toolMessage",
    ]


def test_a_fork_may_have_another_instruction_and_another_query(here: Stage) -> None:
    job = finished(here)
    (here.folder / "brief.txt").write_text("Be brief.", encoding="utf-8")
    here.plays(a=[calls("todo"), calls("clearTodo"), done("{{query}}")])
    words = (f"{job}@1", "And now?", "--instruction-from", str(here.folder / "brief.txt"))
    out = forked(here, *words)
    assert (out.code, answer(out)) == (0, "And now?")
    begin = next(event for event in out.events if event["type"] == "startRun")
    (instruction, _) = begin["newInstruction"]["contents"]
    assert instruction["text"].endswith("# Your instruction\n\nBe brief.")
    replayed = here.types("replay", job, *here.files)
    assert (replayed.code, "identical" in replayed.stdout) == (0, True)


def test_the_instruction_of_an_edited_definition_file_may_be_used(here: Stage) -> None:
    job = finished(here)
    config = here.folder / "perstack.toml"
    text = config.read_text(encoding="utf-8").replace('"Work."', '"Work well."')
    config.write_text(text, encoding="utf-8")
    here.plays(a=[calls("todo"), calls("clearTodo"), done("branch")])
    out = forked(here, f"{job}@1", "--instruction-from", str(config))
    begin = next(event for event in out.events if event["type"] == "startRun")
    assert "Work well." in begin["newInstruction"]["contents"][0]["text"]


def test_a_fork_and_its_trunk_part_where_the_fork_begins(here: Stage) -> None:
    job = finished(here)
    here.plays(a=[calls("todo"), calls("todo", completedTodos=[0]), done("branch")])
    forked(here, f"{job}@1")
    trunk, branch = (f"{job}/{run['id']}" for run in log(here, job)["runs"])
    out = here.types("diff", trunk, branch, "--json", "--workspace", str(here.folder))
    document = json.loads(out.stdout)
    assert (out.code, document["first"]["step"]) == (1, 2)
    assert document["first"]["values"][0] == {
        "path": "calls.0.name",
        "a": "clearTodo",
        "b": "todo",
    }
    assert (document["a"]["steps"], document["b"]["steps"]) == (3, 3)


def test_a_fork_of_a_fork_counts_the_steps_that_both_have(here: Stage) -> None:
    job = finished(here)
    here.plays(a=[calls("todo"), calls("clearTodo"), done("branch")])
    forked(here, f"{job}@1")
    here.plays(a=[calls("todo"), calls("clearTodo"), done("twig")])
    out = forked(here, f"{job}@1")
    assert (out.code, answer(out)) == (0, "twig")


def test_a_fork_needs_a_place_and_something_to_do(here: Stage) -> None:
    job = finished(here)
    at_the_end = forked(here, job)
    nowhere = forked(here, f"{job}@9")
    odd = forked(here, f"{job}@last")
    assert [out.code for out in (at_the_end, nowhere, odd)] == [2, 2, 2]
    assert "has its answer" in at_the_end.stderr
    assert "Its steps are 1, 2, 3" in nowhere.stderr
    assert "Write JOB or JOB@STEP" in odd.stderr
