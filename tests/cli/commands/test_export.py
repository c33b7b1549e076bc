"""`perstack export` and `perstack import`: a job leaves its machine and goes on elsewhere."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from perstack.store.transfer.job_archive import unpack
from tests.cli.harness import Stage, calls, done, says, stage

SECRET = "tr0ub4dor-and-3-staples"


@pytest.fixture
def there(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Another machine, as far as a path can tell."""
    return stage(tmp_path_factory.mktemp("there"))


def exported(here: Stage, *words: str) -> Path:
    """The file of the latest job."""
    path = here.folder / "job.perstack"
    out = here.types("export", *words, "-o", str(path), "--workspace", str(here.folder))
    assert (out.code, out.stdout) == (0, f"{path}\n"), out.stderr
    return path


def taken_in(there: Stage, *paths: Path) -> str:
    out = there.types("import", *map(str, paths), "--workspace", str(there.folder))
    assert out.code == 0, out.stderr
    return out.stdout.strip()


def plays_on(place: Stage, answer: str = "blue it is") -> None:
    """Give the rest of the script: replies count from the beginning of the conversation."""
    place.plays(a=[says("said already"), says("said already"), says(answer)])


def asking(here: Stage) -> str:
    """Let a coordinator use its delegate, then ask its user."""
    here.plays(
        a=[calls("x", query="help me"), calls("askUser", question="Which?")],
        a_x=[done("helped")],
    )
    out = here.runs("a", "the task")
    assert out.code == 3, out.stderr
    return out.events[-1]["jobId"]


def test_a_job_that_waits_is_answered_elsewhere(here: Stage, there: Stage) -> None:
    job = asking(here)
    assert taken_in(there, exported(here)) == job
    assert f"Job: {job} (stoppedByInteractiveTool)" in there.logs().stdout

    plays_on(there)
    out = there.runs("a", "blue", "-i", "--continue-job", job)
    assert out.code == 0, out.stderr
    assert out.events[-1]["text"] == "blue it is"
    messages = out.events[-1]["checkpoint"]["messages"]
    told = [
        part["contents"][0]["text"]
        for message in messages
        if message["type"] == "toolMessage"
        for part in message["contents"]
    ]
    assert told == ["helped", "blue"]
    assert "(stoppedByInteractiveTool)" in here.logs().stdout


def test_a_job_goes_on_in_turn_on_two_machines(here: Stage, there: Stage) -> None:
    job = asking(here)
    taken_in(there, exported(here))
    plays_on(there)
    assert there.runs("a", "blue", "-i", "--continue-job", job).code == 0
    back = exported(there, job)

    assert taken_in(here, back) == job
    assert f"Job: {job} (completed)" in here.logs().stdout
    assert (
        here.logs("--take", "0").stdout.split("\n", 2)[2]
        == (there.logs("--take", "0").stdout.split("\n", 2)[2])
    )


def test_a_second_import_says_that_the_job_is_there(here: Stage, there: Stage) -> None:
    asking(here)
    path = exported(here)
    taken_in(there, path)
    before = there.logs("--json").stdout
    out = there.types("import", str(path), "--workspace", str(there.folder))
    assert (out.code, "here already" in out.stderr) == (0, True)
    assert there.logs("--json").stdout == before


def test_an_import_over_another_course_is_refused(here: Stage, there: Stage) -> None:
    job = asking(here)
    taken_in(there, exported(here))
    for place, colour in ((here, "blue"), (there, "red")):
        plays_on(place, colour)
        assert place.runs("a", colour, "-i", "--continue-job", job).code == 0
    out = there.types("import", str(exported(here)), "--workspace", str(there.folder))
    assert (out.code, out.stdout) == (2, "")
    assert f"another job {job} here" in out.stderr
    assert "red" in there.logs("--take", "0").stdout


def test_no_secret_that_an_expert_met_is_in_what_is_exported(
    here: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", SECRET)
    (here.folder / ".env.local").write_text(f"OTHER_TOKEN={SECRET[::-1]}\n", encoding="utf-8")
    (here.folder / "found.txt").write_text(f"{SECRET} {SECRET[::-1]}", encoding="utf-8")
    here.plays(a=[calls("readTextFile", path="found.txt"), done("read it")])
    env = ("--env-path", str(here.folder / ".env.local"))
    assert here.runs("a", "read", *env).code == 0
    files = tmp_path / "files"
    out = here.types("export", "--files", str(files), "--workspace", str(here.folder))
    assert out.code == 0, out.stderr

    said = "".join(map(str, unpack(exported(here)).events))
    said += "".join(path.read_text(encoding="utf-8") for path in files.rglob("*.json"))
    assert "readTextFile" in said
    assert SECRET not in said
    assert SECRET[::-1] not in said


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_folder_has_the_layout_that_other_tools_read(here: Stage, tmp_path: Path) -> None:
    first, second = asking(here), asking(here)
    out = here.types(
        "export", "--all", "--files", str(tmp_path / "out"), "--workspace", str(here.folder)
    )
    assert out.code == 0, out.stderr
    homes = [tmp_path / "out" / "jobs" / job for job in (second, first)]
    assert out.stdout.split() == [str(home) for home in homes]
    home = homes[0]
    job = read(home / "job.json")
    assert (job["id"], job["status"]) == (second, "stoppedByInteractiveTool")
    assert (job["coordinatorExpertKey"], job["totalSteps"], job["maxSteps"]) == ("a", 3, 100)
    runs = sorted((home / "runs").iterdir())
    assert len(runs) == 2
    settings = {read(run / "run-setting.json")["expertKey"]: run for run in runs}
    setting = read(settings["a"] / "run-setting.json")
    assert (setting["input"], setting["env"]) == ({"text": "the task"}, {})

    stored = json.loads(here.logs("--json", "--take", "0", "--job", second).stdout)["events"]
    written = [path for run in runs for path in run.glob("event-*.json")]
    assert len(written) == len(stored)
    by_id = {event["id"]: event for event in map(read, written)}
    assert by_id == {event["id"]: event for event in stored}
    for path in written:
        name = re.fullmatch(r"event-(\d+)-(\d+)-(\w+)\.json", path.name)
        assert name is not None
        assert (int(name[2]), name[3]) == (read(path)["stepNumber"], read(path)["type"])

    checkpoints = [read(path) for path in (home / "checkpoints").iterdir()]
    assert {checkpoint["status"] for checkpoint in checkpoints} == {
        "stoppedByDelegate",
        "completed",
        "stoppedByInteractiveTool",
    }
    newest = max(
        (one for one in checkpoints if one["expert"]["key"] == "a"),
        key=lambda one: one["stepNumber"],
    )
    assert newest["pendingToolCalls"][0]["toolName"] == "askUser"


def test_an_export_made_again_replaces_the_one_before(here: Stage, tmp_path: Path) -> None:
    job = asking(here)
    words = ("export", job, "--files", str(tmp_path), "--workspace", str(here.folder))
    assert here.types(*words).code == 0
    before = sorted(tmp_path.rglob("*"))
    assert here.types(*words).code == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_export_is_replaced_by_a_slim_one_and_taken_in_alike(
    here: Stage, there: Stage, tmp_path: Path
) -> None:
    job = asking(here)
    words = ("export", job, "--files", str(tmp_path / "o"), "--workspace", str(here.folder))
    assert here.types(*words).code == 0
    slim = sorted((tmp_path / "o").rglob("*"))
    assert here.types(*words, "--wire", "full").code == 0
    events = [read(path) for path in (tmp_path / "o").rglob("event-*.json")]
    types = {event["type"] for event in events}
    assert "finishAllToolCalls" in types
    assert all("messages" in event for event in events if event["type"] == "startGeneration")
    assert all("step" in event for event in events if event["type"] == "continueToNextStep")
    assert taken_in(there, tmp_path / "o") == job
    tokens = re.search(r"Tokens:.*", here.logs("--job", job).stdout)
    assert tokens is None or tokens[0] in there.logs("--job", job).stdout
    assert here.types(*words).code == 0
    assert sorted((tmp_path / "o").rglob("*")) == slim


def test_an_id_never_leads_out_of_the_folder(here: Stage, tmp_path: Path) -> None:
    here.plays(a=[done("well")])
    assert here.runs("a", "task", "--job-id", "../../up").code == 0
    out = here.types("export", "--files", str(tmp_path / "o"), "--workspace", str(here.folder))
    assert Path(out.stdout.strip()).parent == tmp_path / "o" / "jobs"
    assert [path.name for path in (tmp_path / "o" / "jobs").iterdir()] == ["..%2F..%2Fup"]
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--all",), "needs --files"),
        (("--all", "job", "--files", "x"), "contradict each other"),
        (("-o", "x", "--files", "y"), "contradict each other"),
        (("--wire", "full"), "needs --files"),
        (("nowhere",), "There is no job nowhere"),
        (("-o", "no/such/folder/x"), "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_exported_is_said(
    here: Stage, words: tuple[str, ...], complaint: str
) -> None:
    asking(here)
    out = here.types("export", *words, "--workspace", str(here.folder))
    assert (out.code, out.stdout) == (2, "")
    assert complaint in out.stderr


def test_nothing_is_imported_if_one_of_the_files_is_none(here: Stage, there: Stage) -> None:
    asking(here)
    other = here.folder / "other"
    other.write_text("x", encoding="utf-8")
    path = exported(here)
    out = there.types("import", str(path), str(other), "--workspace", str(there.folder))
    assert (out.code, out.stdout) == (2, "")
    assert "other is not an exported job" in out.stderr
    assert not (there.folder / "perstack").exists()


def test_a_workspace_that_is_not_there_is_an_error(here: Stage) -> None:
    asking(here)
    out = here.types("import", str(exported(here)), "--workspace", str(here.folder / "no"))
    assert (out.code, "is not a folder" in out.stderr) == (2, True)


def test_a_folder_is_imported_and_its_job_goes_on(here: Stage, there: Stage) -> None:
    job = asking(here)
    files = here.folder / "files"
    assert here.types("export", "--files", str(files), "--workspace", str(here.folder)).code == 0
    assert taken_in(there, files) == job
    assert taken_in(there, files / "jobs" / job) == job
    shown = there.logs("--take", "0").stdout
    assert f"Job: {job} (stoppedByInteractiveTool)" in shown
    assert "@a/x" in shown

    plays_on(there)
    out = there.runs("a", "blue", "-i", "--continue-job", job)
    assert (out.code, out.events[-1]["text"]) == (0, "blue it is"), out.stderr


def test_a_folder_is_no_way_around_a_job_that_is_there(here: Stage) -> None:
    job = asking(here)
    files = here.folder / "files"
    here.types("export", "--files", str(files), "--workspace", str(here.folder))
    out = here.types("import", str(files), "--workspace", str(here.folder))
    assert (out.code, f"another job {job} here" in out.stderr) == (2, True)


def test_a_folder_without_jobs_is_refused(here: Stage) -> None:
    out = here.types("import", str(here.folder), "--workspace", str(here.folder))
    assert (out.code, "has no jobs" in out.stderr) == (2, True)


def test_an_imported_job_is_replayed_without_its_model(here: Stage, there: Stage) -> None:
    job = asking(here)
    taken_in(there, exported(here))
    out = there.types("replay", job, *there.files)
    assert out.code == 0, out.stdout + out.stderr


@pytest.mark.parametrize("words", [(), ("--jobs",)])
def test_the_log_writes_the_same_folder(here: Stage, tmp_path: Path, words: tuple[str]) -> None:
    asking(here)
    job = asking(here)
    every = ("--all",) if words else ()
    out = here.types(
        "export", *every, "--files", str(tmp_path / "one"), "--workspace", str(here.folder)
    )
    assert out.code == 0, out.stderr
    logged = here.logs("--export", str(tmp_path / "two"), *words)
    assert (logged.code, logged.stdout) == (0, out.stdout.replace("/one/", "/two/"))
    files = {
        place: {path.relative_to(tmp_path / place) for path in (tmp_path / place).rglob("*")}
        for place in ("one", "two")
    }
    assert files["one"] == files["two"]
    assert Path("jobs") / job / "job.json" in files["two"]


def test_the_log_exports_whole_jobs_only(here: Stage) -> None:
    asking(here)
    out = here.logs("--export", "x", "--errors")
    assert (out.code, "--export and --errors cannot be used together" in out.stderr) == (2, True)
