"""Going on, answering, branching; what is exported and what the log shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _upstream_shapes import (
    CHECKPOINT,
    JOB,
    JOB_STATUSES,
    RUN_SETTING,
    Json,
    event_problems,
    part_problems,
)
from _upstream_stage import (
    ADDED,
    KEYS,
    Project,
    Ran,
    calls,
    case,
    done,
    expert,
    holds,
    project,
    question,
    result_texts,
    said_to,
    same,
    says,
)

DESK = expert("desk")
ASKING = expert("desk") + question("desk")
ASK = calls(("askUser", {"text": "Which?"}))
FILE_NAME = re.compile(r"event-(\d+)-(\d+)-(\w+)\.json")


@case()
def follow_up(folder: Path) -> None:
    """A completed job goes on with a query, in a further run that knows all that was said."""
    with project(folder, DESK, desk=[says("first"), says("second"), says("third")]) as here:
        first = here.completes("desk", "One.")
        ran = here.completes("desk", "Two.", "--continue-job", first.job)
        same(said_to(here.model.requests[1]), ["One.", "Two."], "what was said")
        same(ran.job, first.job, "the job")
        holds(ran.end["runId"] != first.end["runId"], "it is the same run")
        start = ran.one("startRun")
        same([each["type"] for each in start["inputMessages"]], ["userMessage"], "new messages")
        same(len(start["initialCheckpoint"]["messages"]), 3, "messages that it begins with")
        newest = here.completes("desk", "Three.", "--continue")
        same(newest.job, first.job, "the newest job")


@case("stable-runs", "exit-codes")
def answered(folder: Path) -> None:
    """A question stops the run; the answer, in plain text, is the result of its call."""
    with project(folder, ASKING, desk=[ASK, done("green it is")]) as here:
        stop = here.run("desk", "Paint.")
        same((stop.code, stop.end["type"]), (3, "stopRunByInteractiveTool"), "the end")
        same(stop.end["checkpoint"]["id"], stop.end["id"], "the id to resume from")
        asked = stop.one("callInteractiveTool")
        same(asked["toolCall"]["args"], {"text": "Which?"}, "what is asked")
        ran = here.completes("desk", "green", "-i", "--continue-job", stop.job)
        same(ran.one("initializeRuntime")["interactiveToolCall"]["text"], "green", "the answer")
        checkpoint = ran.one("resumeFromStop")["checkpoint"]
        same(checkpoint["status"], "proceeding", "the status")
        same(ran.end["runId"], stop.end["runId"], "the run")
        texts = result_texts(ran.one("resolveToolResults")["toolResults"])
        same((texts, ran.end["text"]), (["green"], "green it is"), "results")
        refused = here.run("desk", "x", "--continue-job", stop.job, "--run-id", "r", "-i")
        holds(refused.code != 0, "a run that is over takes an answer")


@case()
def answers_in_other_forms(folder: Path) -> None:
    """An answer may be one word, come on stdin, or be JSON that names its call."""
    with project(folder, ASKING, desk=[ASK, done("1"), ASK, done("2"), ASK, done("3")]) as here:
        job = here.run("desk", "Paint.").job
        here.completes("--continue-job", job, "-i", "green")
        job = here.run("desk", "Paint.").job
        here.completes("desk", "-i", "--continue-job", job, stdin="blue\n")
        stop = here.run("desk", "Paint.")
        call = stop.one("callInteractiveTool")["toolCall"]
        answer = json.dumps({"toolCallId": call["id"], "toolName": "askUser", "skillName": "user"})
        text = answer[:-1] + ', "text": "red"}'
        here.completes("desk", text, "-i", "--continue-job", stop.job)
        told = [
            [each.text for each in request.messages if each.role == "tool"]
            for request in here.model.requests
        ]
        same([each for each in told if each], [["green"], ["blue"], ["red"]], "answers")


@case("all-questions")
def several_questions(folder: Path) -> None:
    """All questions of a message are put, and answered one by one until none is open."""
    both = calls(("askUser", {"text": "Which?"}), ("askUser", {"text": "When?"}))
    with project(folder, ASKING, desk=[both, done("now, green")]) as here:
        stop = here.run("desk", "Paint.")
        same(len(stop.of("callInteractiveTool")), 2, "questions")
        same(len(stop.end["checkpoint"]["pendingToolCalls"]), 2, "open questions")
        again = here.run("desk", "green", "-i", "--continue-job", stop.job)
        same((again.code, again.end["type"]), (3, "stopRunByInteractiveTool"), "the next end")
        same(len(again.end["checkpoint"]["pendingToolCalls"]), 1, "open questions then")
        ran = here.completes("desk", "now", "-i", "--continue-job", stop.job)
        same(len(here.model.requests), 2, "generations")
        same(ran.end["text"], "now, green", "the answer")


@case()
def branch(folder: Path) -> None:
    """From an older checkpoint a job goes on in a branch, and what was stays as it was."""
    replies = [calls(("todo", {"newTodos": ["x"]})), says("trunk"), says("branch")]
    with project(folder, DESK, desk=replies) as here:
        first = here.completes("desk", "Go.")
        before = _logged(here, "--job", first.job)
        at = first.one("continueToNextStep")["nextCheckpoint"]["id"]
        ran = here.completes("--continue-job", first.job, "--resume-from", at)
        same(ran.end["text"], "branch", "the answer")
        same(ran.end["checkpoint"]["parentCheckpointId"], at, "where it begins")
        after = _logged(here, "--job", first.job)
        same(after["events"][: len(before["events"])], before["events"], "the trunk")


@case()
def nothing_left_to_do(folder: Path) -> None:
    """A checkpoint that has the answer goes on with a query only."""
    with project(folder, DESK, desk=[says("first"), says("second"), says("other")]) as here:
        first = here.completes("desk", "One.")
        here.completes("desk", "Two.", "--continue-job", first.job)
        words = ("--continue-job", first.job, "--resume-from", first.end["checkpoint"]["id"])
        refused = here.run(*words)
        holds(refused.code != 0 and "Give a query" in refused.stderr, refused.stderr)
        same(len(here.model.requests), 2, "generations")
        ran = here.completes("desk", "Another two.", *words)
        same(said_to(here.model.requests[-1]), ["One.", "Another two."], "what was said")
        same(ran.end["text"], "other", "the answer")


@case()
def refusals(folder: Path) -> None:
    """What cannot be gone on with is refused, in the words that are known for it."""
    with project(folder, DESK + expert("other"), desk=[done()]) as here:
        nothing = here.run("--continue")
        holds(nothing.code != 0 and "No checkpoint found" in nothing.stderr, nothing.stderr)
        job = here.completes("desk", "Go.").job
        for words, complaint in (
            (("desk", "x", "--resume-from", "c"), "--resume-from requires --continue-job"),
            (("desk", "x", "--continue-job", job, "--resume-from", "c-1"), "c-1 not found in job"),
            (("other", "x", "--continue-job", job), "other"),
            (("desk", "x", "--continue-job", "nowhere"), "nowhere"),
            (("desk", "x", "-i", "--continue-job", job), "not waiting for an answer"),
        ):
            ran = here.run(*words)
            holds(ran.code != 0 and complaint in ran.stderr, f"{words}: {ran.stderr}")


@case()
def ids_that_are_given(folder: Path) -> None:
    """A job and a run have the ids that they are given."""
    with project(folder, DESK, desk=[done()]) as here:
        ran = here.completes("desk", "Go.", "--job-id", "my-job", "--run-id", "my-run")
        same({(each["jobId"], each["runId"]) for each in ran.events}, {("my-job", "my-run")}, "ids")
        again = here.run("desk", "Go.", "--job-id", "my-job")
        holds(again.code != 0 and "my-job" in again.stderr, again.stderr)


def _exported(here: Project, *words: str) -> Path:
    out = here.folder / "out"
    ran = here.perstack("export", "--files", str(out), "--wire", "full", *words)
    same(ran.code, 0, ran.stderr)
    return Path(ran.stdout.splitlines()[0])


def _read(path: Path) -> Json:
    return json.loads(path.read_text(encoding="utf-8"))


def _busy(folder: Path) -> Iterator[tuple[Project, Ran]]:
    """A job with a delegate and a tool."""
    toml = expert("desk", 'delegates = ["@desk/clerk"]') + expert("@desk/clerk")
    replies = [calls(("clerk", {"query": "Look."})), calls(("todo", {})), done("end")]
    with project(folder, toml, desk=replies, clerk=[done("seen")]) as here:
        yield here, here.completes("desk", "Go.")


@case()
def layout(folder: Path) -> None:
    """An exported job is a folder of files with the names and fields that other tools read."""
    for here, ran in _busy(folder):
        home = _exported(here)
        same(home.name, ran.job, "the folder")
        job = _read(home / "job.json")
        same(sorted(JOB - job.keys()), [], "what job.json lacks")
        same((job["status"], job["coordinatorExpertKey"]), ("completed", "desk"), "the job")
        holds(job["status"] in JOB_STATUSES, "no status of a job")
        runs = sorted((home / "runs").iterdir())
        same(len(runs), 2, "runs")
        for run in runs:
            setting = _read(run / "run-setting.json")
            same(sorted(RUN_SETTING - setting.keys()), [], "what run-setting.json lacks")
            files = sorted(run.glob("event-*.json"), key=_place)
            same(_read(files[0])["type"], "startRun", "the first event")
            events = [_read(file) for file in files]
            problems = list(event_problems(events, ADDED))
            holds(not problems, "; ".join(problems[:3]))
            for file, event in zip(files, events, strict=True):
                name = FILE_NAME.fullmatch(file.name)
                same(
                    name and (int(name[2]), name[3]),
                    (event["stepNumber"], event["type"]),
                    file.name,
                )


def _place(file: Path) -> tuple[int, int]:
    event = _read(file)
    return event["timestamp"], int(event["id"].rpartition("-")[2])


@case()
def exported_checkpoints(folder: Path) -> None:
    """Each step and each stop has a checkpoint of its own, with the whole conversation."""
    for here, ran in _busy(folder):
        home = _exported(here)
        checkpoints = [_read(path) for path in (home / "checkpoints").iterdir()]
        for checkpoint in checkpoints:
            same(sorted(CHECKPOINT - checkpoint.keys()), [], "what it lacks")
            same(list(part_problems(checkpoint)), [], "what its parts lack")
        known = {each["id"]: each for each in checkpoints}
        same(known[ran.end["checkpoint"]["id"]], ran.end["checkpoint"], "the last one")
        stop = ran.one("stopRunByDelegate")["checkpoint"]
        same(known[stop["id"]], stop, "the one that waits for the delegate")


@case()
def export_and_stream(folder: Path) -> None:
    """The files of events are those that were streamed, with the same ids and payloads."""
    for here, ran in _busy(folder):
        home = _exported(here)
        written = [_read(path) for path in home.rglob("event-*.json")]
        by_id = {each["id"]: each for each in written}
        streamed = {each["id"]: each for each in ran.events if "expertKey" in each}
        kept = {key: each for key, each in streamed.items() if "." not in key.rpartition("-")[2]}
        same(sorted(by_id), sorted(kept), "ids")
        differing = [key for key, each in kept.items() if by_id[key] != each]
        same(differing, [], "events that differ")


@case("no-secrets")
def no_secrets(folder: Path) -> None:
    """No file has the key of the model or the environment."""
    for here, _ in _busy(folder):
        home = _exported(here)
        setting = _read(next(home.rglob("run-setting.json")))
        same(setting["env"], {}, "the environment")
        key = next(iter(KEYS.values()))
        texts = (path.read_bytes() for path in here.folder.rglob("*") if path.is_file())
        holds(not any(key.encode() in text for text in texts), "the key is in a file")


def _logged(here: Project, *words: str) -> dict[str, Any]:
    ran = here.perstack("log", "--json", "--take", "0", *words)
    same(ran.code, 0, ran.stderr)
    return json.loads(ran.stdout)


@case()
def log_document(folder: Path) -> None:
    """`log --json` has the latest job with its events and what they add up to."""
    for here, ran in _busy(folder):
        document = _logged(here)
        same(document["job"]["id"], ran.job, "the job")
        holds(document["isLatestJob"], "it is not told that it is the latest")
        summary = document["summary"]
        same((summary["toolCallCount"], summary["delegationCount"]), (4, 1), "counts")
        same(summary["totalEvents"], len(document["events"]), "events")
        same((summary["errorCount"], summary["stepRange"]), (0, {"min": 1, "max": 4}), "the rest")


@case("no-data")
def log_without_data(folder: Path) -> None:
    """Where no job has run, the log says that there is no data, and that is no failure."""
    with project(folder, DESK, desk=[]) as here:
        for words in ((), ("--errors",), ("--tools",), ("--summary",), ("--step", "5")):
            ran = here.perstack("log", *words)
            same((ran.code, ran.stdout[:13]), (0, "No data found"), " ".join(words))
        document = json.loads(here.perstack("log", "--json").stdout)
        same(document, {"job": None, "events": []}, "the document")
        unknown = here.perstack("log", "--job", "nowhere")
        holds(unknown.code != 0 and "No data found" in unknown.stderr, unknown.stderr)


@case()
def log_filters(folder: Path) -> None:
    """The log shows what its filters let through, all of them together."""
    for here, ran in _busy(folder):
        child = ran.of("startRun")[1]["runId"]
        stop = ran.one("stopRunByDelegate")["id"]
        for words, wanted in (
            (("--type", "callTools"), {"callTools"}),
            (("--tools",), {"callTools", "resolveToolResults"}),
            (("--delegations",), {"callDelegate", "stopRunByDelegate"}),
            (("--errors",), set[str]()),
            (("--type", "callTools", "--step", "2"), {"callTools"}),
        ):
            seen = {each["type"] for each in _logged(here, *words)["events"]}
            same(seen, wanted, " ".join(words))
        same({each["runId"] for each in _logged(here, "--run", child)["events"]}, {child}, "--run")
        same(_logged(here, "--checkpoint", stop)["events"][-1]["id"], stop, "--checkpoint")
        for step, wanted in (("2", {2}), (">2", {3, 4}), ("<=2", {1, 2}), ("2-3", {2, 3})):
            numbers = {each["stepNumber"] for each in _logged(here, "--step", step)["events"]}
            same(numbers, wanted, f"--step {step}")
        found = _logged(here, "--filter", '.toolCalls[].toolName == "clerk"')["events"]
        same({each["type"] for each in found}, {"callTools", "callDelegate"}, "--filter")


@case()
def log_windows(folder: Path) -> None:
    """The log shows so many events from a place on, with neighbours, or only a summary."""
    for here, _ in _busy(folder):
        every = _logged(here)["events"]
        window = here.perstack("log", "--json", "--take", "2", "--offset", "1")
        same(json.loads(window.stdout)["events"], every[1:3], "a window")
        beside = _logged(here, "--type", "callDelegate", "--context", "1")["events"]
        same([each.get("isContext", False) for each in beside], [True, False, True], "neighbours")
        summary = here.perstack("log", "--summary")
        holds(summary.code == 0 and "callTools" not in summary.stdout, summary.stdout)
        for words in (("--step", "many"), ("--step", "5-1"), ("--filter", "nonsense")):
            refused = here.perstack("log", *words)
            holds(refused.code != 0 and "nvalid" in refused.stderr, refused.stderr)
