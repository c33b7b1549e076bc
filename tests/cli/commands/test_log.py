"""`perstack log`: what a job did, from its events alone."""

import json
import re
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import anyio
import pytest

from perstack.cli.event_filter import parse_step_filter
from perstack.cli.job_log import JobLog, JobSelector, read_job_log
from perstack.stores import open_store, sqlite_url, store_path
from tests.cli.harness import Stage, calls, done, process, says


def delegating(here: Stage) -> str:
    """Let the coordinator call its delegate, and return the job's id."""
    here.plays(
        a=[calls("x", query="help me"), calls("todo", newTodos=["one"]), says("all done")],
        a_x=[done("helped")],
    )
    return here.runs("a", "the task").events[-1]["jobId"]


def document(here: Stage, *words: str) -> dict[str, Any]:
    """The log as JSON."""
    out = here.logs("--json", *words)
    assert out.code == 0, out.stderr
    return json.loads(out.stdout)


def shown_types(here: Stage, *words: str) -> list[str]:
    """The types of the events that are shown."""
    return [event["type"] for event in document(here, *words)["events"]]


def test_the_latest_job_is_shown_with_its_header_its_tree_and_its_events(here: Stage) -> None:
    job = delegating(here)
    out = here.logs()
    lines = out.stdout.splitlines()
    assert out.code == 0
    assert lines[0] == "(showing latest job)"
    assert lines[1] == f"Storage: {here.folder / 'perstack' / 'store.db'}"
    assert lines[2] == f"Job: {job} (completed)"
    assert "Expert: a" in lines
    assert "Query: the task" in lines
    (root,) = (line for line in lines if line.startswith("● a  ⎇ delegating"))
    below = lines[lines.index(root) + 1 :]
    assert below[0].startswith("├─● @a/x  ✓ completed")
    assert below[1].startswith("● a (resumed)  ✓ completed")
    assert re.search(r"^\[Step 1\] callTools  \d\d:\d\d:\d\d  a$", out.stdout, re.MULTILINE)
    assert "  x(query='help me')" in lines
    assert "  ⎇ @a/x: help me" in lines
    assert "  ✓ x: helped" in lines
    assert lines[-1].startswith("(showing ")


def test_a_job_may_be_named(here: Stage) -> None:
    first = delegating(here)
    here.plays(a=[says("second")])
    here.runs("a", "another task")
    out = here.logs("--job", first)
    assert "(showing latest job)" not in out.stdout
    assert f"Job: {first} (completed)" in out.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--job", "nowhere"], "There is no job nowhere."),
        (["--run", "nowhere"], "Run nowhere not found in any job."),
        (["--checkpoint", "nowhere-3"], "Checkpoint nowhere-3 not found in any job."),
        (["--checkpoint", "nowhere"], "Checkpoint nowhere not found in any job."),
        (["--job", "JOB", "--run", "nowhere"], "Run nowhere not found in job JOB."),
        (["--job", "JOB", "--checkpoint", "no-1"], "Checkpoint no-1 not found in job JOB."),
        (["--checkpoint", "RUN-999"], "Checkpoint RUN-999 not found in job JOB."),
        (["--checkpoint", "RUN-x"], "Checkpoint RUN-x not found in job JOB."),
        (["--run", "CHILD", "--checkpoint", "RUN-2"], "Checkpoint RUN-2 not found in run CHILD."),
        (["--follow", "--run", "nowhere"], "Run nowhere not found in any job."),
        (["--follow", "--job", "JOB", "--run", "no"], "Run no not found in job JOB."),
    ],
)
def test_what_is_not_there_is_an_error(here: Stage, words: list[str], said: str) -> None:
    job = delegating(here)
    run, child = (run["id"] for run in document(here)["runs"])

    def filled(text: str) -> str:
        return text.replace("JOB", job).replace("RUN", run).replace("CHILD", child)

    out = here.logs(*map(filled, words))
    assert (out.code, out.stdout) == (2, "")
    assert filled(said) in out.stderr


def test_a_story_is_not_spelled_out_where_only_its_name_is_wanted(here: Stage) -> None:
    delegating(here)
    path = store_path(here.folder)

    async def read() -> JobLog:
        async with open_store(sqlite_url(path)) as store:
            return await read_job_log(store, path, JobSelector())

    assert len(repr(anyio.run(read))) < 200


def test_a_run_or_a_checkpoint_leads_to_its_job(here: Stage) -> None:
    first = delegating(here)
    child = document(here)["runs"][1]["id"]
    here.plays(a=[says("second")])
    here.runs("a", "another task")
    for words in (("--run", child), ("--checkpoint", f"{child}-2")):
        found = document(here, *words)
        assert (found["job"]["id"], found["isLatestJob"]) == (first, False)
        assert {event["runId"] for event in found["events"]} == {child}


def test_a_checkpoint_is_a_run_as_it_stood_then(here: Stage) -> None:
    delegating(here)
    run = document(here)["runs"][0]["id"]
    found = document(here, "--checkpoint", f"{run}-3")
    assert [event["type"] for event in found["events"]] == [
        "startRun",
        "startGeneration",
        "callTools",
    ]
    checkpoint = found["checkpoint"]
    assert (checkpoint["id"], checkpoint["status"]) == (f"{run}-3", "proceeding")
    assert [call["toolName"] for call in checkpoint["pendingToolCalls"]] == ["x"]
    assert "messages" not in checkpoint
    out = here.logs("--checkpoint", f"{run}-3").stdout
    assert f"Checkpoint: {run}-3 (proceeding)" in out
    assert re.search(r"^Unanswered: x \S+$", out, re.MULTILINE)
    assert "Conversation: 3 messages, " in out


def test_messages_are_all_that_was_said_until_then(here: Stage) -> None:
    delegating(here)
    run, child = (run["id"] for run in document(here)["runs"])
    early = document(here, "--checkpoint", f"{run}-1", "--messages")["checkpoint"]["messages"]
    assert [message["type"] for message in early] == ["instructionMessage", "userMessage"]
    whole = here.logs("--messages").stdout
    assert "user:\n  the task\nexpert:\n  → x {" in whole
    assert "tools:\n  ✓ x: helped" in whole
    assert whole.index("  ✓ x: helped") < whole.index("expert:\n  all done")
    assert "user:\n  help me\n" in here.logs("--messages", "--run", child).stdout


def test_neighbours_of_events_are_told_apart(here: Stage) -> None:
    delegating(here)
    words = ("--filter", '.toolCalls[].toolName == "todo"', "--context", "1")
    found = document(here, *words)
    assert [(event["type"], event.get("isContext", False)) for event in found["events"]] == [
        ("startGeneration", True),
        ("callTools", False),
        ("recordToolResult", True),
    ]
    assert (found["totalEventsBeforeLimit"], found["matchedAfterPagination"]) == (1, 1)
    assert here.logs(*words).stdout.endswith("(showing 1 of 1 matched events (+2 context))\n")


def test_expressions_add_up_and_an_unreadable_one_is_refused(here: Stage) -> None:
    delegating(here)
    pair = ("--filter", ".stepNumber > 1", "--filter", ".text != helped")
    assert {event["text"] for event in document(here, *pair)["events"]} == {"all done"}
    assert here.logs("--filter", ".x >").code == 2


def test_verbose_shortens_nothing(here: Stage) -> None:
    text = "word " * 40 + "end"
    here.plays(a=[calls("todo", newTodos=[text]), says(text)])
    here.runs("a", text)
    short, whole = here.logs().stdout, here.logs("--verbose").stdout
    assert " end" not in short
    assert f"  query: {text}" in whole
    assert f'  @perstack/base todo {{"newTodos": ["{text}"]}}' in whole
    assert f"  ✓ {text}" in whole
    assert re.search(r"^\[Step 1\] startRun  \S+  a  \w+-1$", whole, re.MULTILINE)


def test_json_stands_on_one_line_unless_it_shall_be_pretty(here: Stage) -> None:
    delegating(here)
    compact, pretty = here.logs("--json").stdout, here.logs("--pretty").stdout
    assert compact.count("\n") == 1
    assert pretty.startswith('{\n  "job": {\n')
    assert json.loads(compact) == json.loads(pretty)


def test_the_places_where_runs_stopped_are_listed(here: Stage) -> None:
    delegating(here)
    found = document(here)
    root, child = (run["id"] for run in found["runs"])
    assert [(stop["runId"], stop["status"]) for stop in found["checkpoints"]] == [
        (root, "stoppedByDelegate"),
        (child, "completed"),
        (root, "completed"),
    ]
    assert found["checkpoints"][-1]["id"] == found["runs"][0]["checkpointId"]


@pytest.mark.parametrize(
    "words", [("--errors",), ("--job", "x"), ("--follow",), ("--context", "2")]
)
def test_a_list_of_jobs_has_no_events_to_choose_from(here: Stage, words: tuple[str, ...]) -> None:
    delegating(here)
    out = here.logs("--jobs", *words)
    assert (out.code, out.stdout) == (2, "")
    assert f"--jobs and {words[0]} cannot be used together" in out.stderr


def test_a_workspace_without_jobs_has_no_data_and_stays_as_it_was(here: Stage) -> None:
    out = here.logs()
    assert (out.code, out.stdout) == (
        0,
        f"No data found: no job has run in {here.folder}.\n",
    )
    assert "--workspace" in out.stderr
    assert not (here.folder / "perstack").exists()


@pytest.mark.parametrize(
    ("words", "stdout"),
    [
        (["--jobs"], "No data found: no job has run in FOLDER.\n"),
        (["--summary"], "No data found: no job has run in FOLDER.\n"),
        (["--follow"], "No data found: no job has run in FOLDER.\n"),
        (["--json"], '{"job": null, "events": []}\n'),
        (["--jobs", "--json"], "[]\n"),
        (["--follow", "--json"], ""),
    ],
)
@pytest.mark.parametrize("has_store", [True, False])
def test_nothing_to_show_is_no_failure_and_said_in_the_form_that_is_asked_for(
    here: Stage, words: list[str], stdout: str, *, has_store: bool
) -> None:
    if has_store:
        anyio.run(empty_store, here.folder)
    out = here.logs(*words)
    assert (out.code, out.stdout) == (0, stdout.replace("FOLDER", str(here.folder)))


async def empty_store(folder: Path) -> None:
    async with open_store(sqlite_url(store_path(folder))):
        pass


def test_jobs_are_listed_newest_first(here: Stage) -> None:
    first = delegating(here)
    here.plays(a=[{"error": {"message": "refused", "status": 401}}])
    here.runs("a", "another task")
    newest, oldest = here.logs("--jobs").stdout.splitlines()
    assert "stoppedByError" in newest
    assert "another task" in newest
    assert oldest.startswith(first)
    assert [job["status"] for job in json.loads(here.logs("--jobs", "--json").stdout)] == [
        "stoppedByError",
        "completed",
    ]


def test_the_json_form_has_the_job_its_runs_and_the_events_of_the_stream(here: Stage) -> None:
    job = delegating(here)
    found = document(here, "--take", "0")
    assert found["job"]["id"] == job
    assert found["isLatestJob"] is True
    assert [run["expertKey"] for run in found["runs"]] == ["a", "@a/x"]
    assert found["runs"][1]["delegatedBy"] == found["runs"][0]["id"]
    assert found["events"][-1]["type"] == "completeRun"
    assert found["events"][-1]["checkpoint"]["status"] == "completed"
    assert found["summary"]["totalEvents"] == len(found["events"])
    assert (found["summary"]["toolCallCount"], found["summary"]["delegationCount"]) == (3, 1)


@pytest.mark.parametrize(
    ("words", "types"),
    [
        (("--delegations",), ["callDelegate", "stopRunByDelegate"]),
        (("--type", "completeRun"), ["completeRun", "completeRun"]),
        (("--errors",), []),
        (("--tools", "--step", "1"), ["callTools", "resolveToolResults"]),
        (("--tools", "--type", "callTools", "--take", "1"), ["callTools"]),
        (("--take", "1", "--offset", "1"), ["startGeneration"]),
    ],
)
def test_filters_add_up(here: Stage, words: tuple[str, ...], types: list[str]) -> None:
    delegating(here)
    assert shown_types(here, *words) == types


def test_one_run_may_be_picked(here: Stage) -> None:
    delegating(here)
    child = document(here)["runs"][1]["id"]
    events = document(here, "--run", child, "--take", "0")["events"]
    assert {event["expertKey"] for event in events} == {"@a/x"}


def test_a_summary_has_no_events(here: Stage) -> None:
    delegating(here)
    out = here.logs("--summary")
    assert "delegations  1" in out.stdout
    assert "steps        1 to " in out.stdout
    assert "[Step" not in out.stdout
    assert "errors       0" in here.logs("--summary", "--type", "callTools").stdout
    only = document(here, "--summary", "--type", "callTools")
    assert (only["events"], only["summary"]["totalEvents"]) == ([], 3)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("3", [3]),
        (">3", [4, 5]),
        (">=3", [3, 4, 5]),
        ("<3", [1, 2]),
        ("<=3", [1, 2, 3]),
        ("2-4", [2, 3, 4]),
        ("3-3", [3]),
    ],
)
def test_a_step_filter_picks_steps(text: str, steps: list[int]) -> None:
    assert list(filter(parse_step_filter(text), range(1, 6))) == steps


@pytest.mark.parametrize("text", ["", "x", "5-3", "=5", "1-", "-1", "1.5", "> 5"])
def test_an_unreadable_step_filter_is_an_error(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="Invalid step filter"):
        parse_step_filter(text)


def test_the_log_needs_neither_definitions_nor_a_key(here: Stage, tmp_path: Path) -> None:
    delegating(here)
    (tmp_path / "perstack.toml").write_text("this is = = not TOML", encoding="utf-8")
    out = process("log", "--summary", cwd=tmp_path)
    assert (out.code, out.stderr) == (0, "")
    assert "Expert: a" in out.stdout


def test_below_a_definition_file_the_store_beside_it_is_read(here: Stage) -> None:
    delegating(here)
    below = here.folder / "src"
    below.mkdir()
    assert "Expert: a" in process("log", "--summary", cwd=below).stdout
