"""Which store a command reads, and what it says when the job is elsewhere."""

from pathlib import Path

import pytest

from tests.cli.harness import Outcome, Stage, process, says

SUB = "src/deep"


@pytest.fixture
def project(here: Stage) -> Path:
    """A folder with experts, and a folder in it."""
    here.plays(a=[says("done"), says("again")])
    (here.folder / SUB).mkdir(parents=True)
    return here.folder


def job_of(outcome: Outcome) -> str:
    assert outcome.code == 0, outcome.stderr
    return outcome.events[0]["jobId"]


def test_a_job_of_a_sub_folder_is_found_in_that_folder(project: Path) -> None:
    job = job_of(process("run", "a", "q", cwd=project / SUB))
    assert job in process("log", cwd=project / SUB).stdout
    assert not (project / "perstack").exists()


def test_a_job_of_the_project_is_found_from_a_sub_folder(project: Path) -> None:
    job = job_of(process("run", "a", "q", cwd=project))
    for words in (("log",), ("log", "--jobs"), ("log", "--job", job), ("export", job)):
        assert job in process(*words, cwd=project / SUB).stdout
    assert not (project / SUB / "perstack").exists()


def test_a_job_is_found_by_its_id_though_the_current_folder_has_others(project: Path) -> None:
    job = job_of(process("run", "a", "q", cwd=project))
    other = job_of(process("run", "a", "q", cwd=project / SUB))
    shown = process("log", "--job", job, cwd=project / SUB).stdout
    assert f"Job: {job}" in shown
    compared = process("diff", job, other, cwd=project / SUB)
    assert (compared.code, compared.stderr) == (0, "")


def test_a_store_without_jobs_hides_no_other(project: Path) -> None:
    job = job_of(process("run", "a", "q", cwd=project))
    failed = process("run", "nobody", "q", cwd=project / SUB)
    assert failed.code == 2
    assert job in process("log", "--jobs", cwd=project / SUB).stdout


def test_what_is_in_no_store_is_reported_with_the_places_looked_in(project: Path) -> None:
    job_of(process("run", "a", "q", cwd=project))
    out = process("log", "--job", "nowhere", cwd=project / SUB)
    assert out.code == 2
    assert "There is no job nowhere." in out.stderr
    assert f"Looked in {project / SUB} and {project}" in out.stderr


@pytest.mark.parametrize("words", [("--continue",), ("--continue-job", "JOB")])
def test_a_job_of_another_workspace_is_not_continued_but_its_place_is_told(
    project: Path, words: tuple[str, ...]
) -> None:
    job = job_of(process("run", "a", "q", cwd=project))
    filled = [word.replace("JOB", job) for word in words]
    out = process("run", "a", "and more", *filled, cwd=project / SUB)
    assert (out.code, out.stdout) == (2, "")
    assert f"--workspace {project}" in out.stderr
    assert not (project / SUB / "perstack").exists()


def test_a_fork_of_a_job_of_another_workspace_tells_its_place(project: Path) -> None:
    job = job_of(process("run", "a", "q", cwd=project))
    out = process("fork", job, "and more", cwd=project / SUB)
    assert (out.code, f"--workspace {project}" in out.stderr) == (2, True)


def test_a_job_of_a_definition_file_elsewhere_is_in_the_current_folder(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    config = ("--config", str(project))
    job = job_of(process("run", "a", "q", *config, cwd=elsewhere))
    assert job in process("log", cwd=elsewhere).stdout
    assert job in process("log", *config, cwd=elsewhere).stdout
