"""`perstack replay`: a stored job done again, without anything outside."""

import json

from tests.cli.harness import Stage, calls, done, says


def delegating(here: Stage) -> str:
    """Let the coordinator call its delegate, and return the job's id."""
    here.plays(
        a=[calls("x", query="help me"), calls("todo", newTodos=["one"]), says("all done")],
        a_x=[done("helped")],
    )
    return here.runs("a", "the task").events[-1]["jobId"]


def test_a_job_comes_again_as_it_is_recorded_without_its_model(here: Stage) -> None:
    job = delegating(here)
    here.plays(a=[says("nothing of this is asked for")])
    out = here.types("replay", *here.files)
    assert (out.code, out.stdout) == (0, f"Job {job} is identical: 24 events of 2 runs.\n")


def test_a_changed_instruction_is_shown_where_it_begins_to_matter(here: Stage) -> None:
    job = delegating(here)
    config = here.folder / "perstack.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"Help."', '"Help fast."'), encoding="utf-8")
    out = here.types("replay", job, *here.files)
    document = json.loads(here.types("replay", job, "--json", *here.files).stdout)
    assert out.code == 1
    lines = out.stdout.splitlines()
    assert lines[0] == f"{config} is not as it was when the job was run."
    assert lines[2].startswith("[Step 2] startRun  @a/x  ")
    assert [line for line in lines if line[4:5] in "-+"] == ["    - Help.", "    + Help fast."]
    divergence = document["divergence"]
    assert (document["isIdentical"], document["isDefinitionChanged"]) == (False, True)
    assert (divergence["expertKey"], divergence["stepNumber"]) == ("@a/x", 2)
    assert [each["path"] for each in divergence["differences"]] == ["inputMessages.0.stable"]


def test_a_job_of_an_expert_that_is_gone_cannot_be_replayed(here: Stage) -> None:
    job = delegating(here)
    config = here.folder / "perstack.toml"
    config.write_text('[experts."b"]\ninstruction = "Work."\n', encoding="utf-8")
    out = here.types("replay", job, *here.files)
    assert (out.code, "Expert 'a' of the job is not defined" in out.stderr) == (2, True)


def test_a_branch_with_delegates_of_its_own_comes_again(here: Stage) -> None:
    here.plays(
        a=[calls("x", query="go"), done("trunk"), done("branch")],
        a_x=[done("one"), done("two")],
    )
    events = here.runs("a", "q").events
    stop = next(event for event in events if event["type"] == "stopRunByDelegate")
    branch = here.runs("--continue-job", stop["jobId"], "--resume-from", stop["id"])
    assert branch.code == 0
    again = here.types("replay", stop["jobId"], *here.files)
    assert again.code == 0, again.stdout + again.stderr
