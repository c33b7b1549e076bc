"""The command line: help, versions, wrong arguments, environments; and what experts may not do."""

import json
import re
from pathlib import Path
from typing import Any

from _upstream_stage import (
    calls,
    case,
    done,
    expert,
    holds,
    project,
    result_texts,
    same,
)

DESK = expert("desk")


@case()
def help_and_version(folder: Path) -> None:
    """Help and versions are told on stdout."""
    with project(folder, DESK, desk=[]) as here:
        version = here.perstack("--version")
        holds(version.code == 0 and re.search(r"\d+\.\d+\.\d+", version.stdout), version.stdout)
        names = here.perstack("--help")
        holds(names.code == 0 and "run" in names.stdout and "log" in names.stdout, names.stdout)
        options = here.perstack("run", "--help").stdout
        for word in (
            "--config",
            "--provider",
            "--model",
            "--max-steps",
            "--max-retries",
            "--timeout",
        ):
            holds(word in options, f"run --help lacks {word}")
        options = here.perstack("log", "--help").stdout
        for word in ("--job", "--run", "--checkpoint", "--errors", "--tools", "--json", "--filter"):
            holds(word in options, f"log --help lacks {word}")


@case("numbers")
def wrong_arguments(folder: Path) -> None:
    """Arguments that are missing or wrong are refused before anything runs."""
    with project(folder, DESK, desk=[]) as here:
        for words, complaint in (
            ((), "xpert"),
            (("desk",), "uery"),
            (("nobody", "Go."), "nobody"),
            (("desk", "Go.", "--config", "nowhere.toml"), "nowhere.toml"),
            (("desk", "Go.", "--max-steps", "many"), "many"),
            (("desk", "Go.", "--filter", "endRun"), "endRun"),
            (("desk", "Go.", "--nonsense"), "--nonsense"),
        ):
            ran = here.perstack("run", *words)
            holds(ran.code != 0 and complaint in ran.stderr, f"{words}: {ran.stderr}")
            same(ran.stdout, "", f"stdout of {words}")
        same(len(here.model.requests), 0, "requests")


@case()
def bad_definitions(folder: Path) -> None:
    """What is wrong in a definition is told with its place."""
    with project(folder, '[experts."desk"]\ndescription = "x"\n', desk=[]) as here:
        ran = here.perstack("run", "desk", "Go.")
        holds(ran.code != 0 and "instruction" in ran.stderr, ran.stderr)
        holds(re.search(r"perstack\.toml:\d+", ran.stderr), "the place is not told")


@case()
def options_of_the_model(folder: Path) -> None:
    """The model and the provider of the command line win over the file."""
    with project(folder, DESK, desk=[done()]) as here:
        ran = here.completes(
            "desk", "Go.", "--provider", "anthropic", "--model", "claude-haiku-4-5"
        )
        same(here.model.requests[0].model, "claude-haiku-4-5", "the model that is asked")
        same(ran.one("initializeRuntime")["model"], "claude-haiku-4-5", "the model that is told")


@case()
def environment_files(folder: Path) -> None:
    """Keys come from `.env` and `.env.local`, or from the files that are named."""
    with project(folder, DESK, desk=[done(), done()]) as here:
        here.environment = {}
        (folder / ".env").write_text("ANTHROPIC_API_KEY=from-env\n", encoding="utf-8")
        here.completes("desk", "Go.")
        (folder / "one.env").write_text("ANTHROPIC_API_KEY=from-one\n", encoding="utf-8")
        (folder / "two.env").write_text("ANTHROPIC_API_KEY=from-two\n", encoding="utf-8")
        here.completes("desk", "Go.", "--env-path", "one.env", "--env-path", "two.env", "--verbose")
        keys = [request.headers["x-api-key"] for request in here.model.requests]
        same(keys, ["from-env", "from-two"], "keys")


@case()
def missing_key(folder: Path) -> None:
    """A key that is not there is named."""
    with project(folder, DESK, desk=[]) as here:
        here.environment = {}
        ran = here.run("desk", "Go.")
        holds(ran.code != 0 and "ANTHROPIC_API_KEY" in ran.stderr, ran.stderr)


@case()
def runtime_versions(folder: Path) -> None:
    """An expert that needs a later version is refused; one that needs an earlier one runs."""
    with project(folder, expert("desk", 'minRuntimeVersion = "0.0.1"'), desk=[done()]) as here:
        here.completes("desk", "Go.")
    with project(folder, expert("desk", 'minRuntimeVersion = "99.0.0"'), desk=[done()]) as here:
        ran = here.run("desk", "Go.")
        holds(ran.code != 0 and "99.0.0" in ran.stderr, ran.stderr)
        same(len(here.model.requests), 0, "requests")


@case()
def closed_places(folder: Path) -> None:
    """File tools stay in the workspace, by whatever way out, and out of the folder of the store."""
    home = folder / "home"
    home.mkdir()
    (folder / "secret.txt").write_text("s3cr3t", encoding="utf-8")
    (home / "way-out").symlink_to(folder / "secret.txt")
    (home / "alias").symlink_to(home / "perstack")
    paths = (
        "../secret.txt",
        str(folder / "secret.txt"),
        "way-out",
        "perstack/store.db",
        "alias/store.db",
    )
    reads = calls(*[("readTextFile", {"path": path}) for path in paths])
    with project(home, DESK, desk=[reads, done()]) as here:
        ran = here.completes("desk", "Read all.")
        results = ran.one("resolveToolResults")["toolResults"]
        same([each["isError"] for each in results], [True] * len(paths), "errors")
        holds("s3cr3t" not in json.dumps(results), "a file outside was read")


@case()
def environment_of_commands(folder: Path) -> None:
    """Commands of an expert get neither keys nor variables that change how programs load."""
    command: dict[str, Any] = {
        "command": "env",
        "args": [],
        "env": {"LD_PRELOAD": "x.so", "NAME": "value"},
        "cwd": ".",
    }
    reply = calls(("exec", {**command, "stdout": True, "stderr": True}))
    with project(folder, DESK, desk=[reply, done()]) as here:
        ran = here.completes("desk", "Show.")
        (text,) = result_texts(ran.one("resolveToolResults")["toolResults"])
        holds("NAME=value" in text, f"the command says {text!r}")
        holds("API_KEY" not in text and "x.so" not in text, "it got what it must not")


@case()
def private_addresses(folder: Path) -> None:
    """A skill at an address of a private network or of a cloud's metadata is refused."""
    for address in (
        "https://169.254.169.254/latest",
        "https://127.0.0.1/x",
        "http://skills.example",
    ):
        table = f'[experts."desk".skills."far"]\ntype = "mcpSseSkill"\nendpoint = "{address}"\n'
        with project(folder, DESK + table, desk=[]) as here:
            ran = here.perstack("run", "desk", "Go.")
            holds(ran.code != 0 and "far" in ran.stderr, f"{address}: {ran.stderr}")


@case()
def allowed_domains(folder: Path) -> None:
    """Patterns of domains that deceive are refused by name."""
    for pattern in ("xn--exmple-cua.com", "*", "a..b"):
        table = '[experts."desk".skills."far"]\ntype = "mcpStdioSkill"\ncommand = "npx"\n'
        table += f'packageName = "some-server"\nallowedDomains = ["{pattern}"]\n'
        with project(folder, DESK + table, desk=[]) as here:
            ran = here.perstack("run", "desk", "Go.")
            holds(ran.code != 0 and "allowedDomains" in ran.stderr, f"{pattern}: {ran.stderr}")


@case("not-here")
def commands_that_are_not_here(folder: Path) -> None:
    """Commands that there are elsewhere only are refused by name."""
    with project(folder, DESK, desk=[]) as here:
        for name in ("start", "install", "expert", "application"):
            ran = here.perstack(name)
            holds(ran.code != 0 and name in ran.stderr, f"{name}: {ran.stderr}")
