"""What is known to be wrong before a job begins leaves no trace of a job."""

import os
from pathlib import Path

import pytest

from tests.cli.harness import Outcome, process

FILE = """
[provider]
providerName = "openai"
setting.baseUrl = "http://127.0.0.1:9/v1"

[experts.a]
instruction = "Work."
"""
FAULTS = {
    "no key": (FILE, (), "OPENAI_API_KEY is not set"),
    "a placeholder": (FILE, ("OPENAI_API_KEY=<your key>",), "placeholder"),
    "no key of another provider": (FILE, ("--provider=anthropic",), "ANTHROPIC_API_KEY is not set"),
    "no key of a fallback": (
        FILE + '[[fallbacks]]\nmodel = "m"\nprovider = { providerName = "deepseek" }\n',
        ("OPENAI_API_KEY=sk-1",),
        "DEEPSEEK_API_KEY is not set",
    ),
    "no address": (
        FILE.replace("openai", "azure-openai").replace("setting.baseUrl", "#"),
        ("AZURE_API_KEY=sk-1", "--model=m"),
        "AZURE_RESOURCE_NAME or baseUrl is not set",
    ),
    "no such expert": (FILE, ("OPENAI_API_KEY=sk-1", "nobody"), "'nobody' is not defined"),
}


def run(folder: Path, *words: str) -> Outcome:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    given = dict(word.split("=", 1) for word in words if "_API_KEY=" in word)
    rest = [word for word in words if "_API_KEY=" not in word]
    return process(*rest, cwd=folder, environment={**kept, **given})


@pytest.mark.parametrize("fault", FAULTS)
def test_no_job_is_left(tmp_path: Path, fault: str) -> None:
    text, words, said = FAULTS[fault]
    (tmp_path / "perstack.toml").write_text(text, encoding="utf-8")
    expert, options = "a", list(words)
    if "nobody" in options:
        options.remove("nobody")
        expert = "nobody"
    out = run(tmp_path, "run", expert, "q", *options)
    assert (out.code, out.stdout) == (2, "")
    assert said in out.stderr
    assert "resume" not in out.stderr
    assert "No data found" in run(tmp_path, "log", "--jobs").stdout
    assert "No data found" in run(tmp_path, "stats").stderr


def test_a_job_that_is_continued_without_its_key_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "perstack.toml").write_text(FILE, encoding="utf-8")
    failed = run(tmp_path, "run", "a", "q", "--max-retries", "0", "OPENAI_API_KEY=sk-1")
    assert failed.code == 1
    before = run(tmp_path, "log", "--json", "--take", "0").stdout
    out = run(tmp_path, "run", "--continue")
    assert (out.code, out.stdout) == (2, "")
    assert "OPENAI_API_KEY is not set" in out.stderr
    assert run(tmp_path, "log", "--json", "--take", "0").stdout == before
