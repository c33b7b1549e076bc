"""`perstack test`: the tests that experts declare, made one after the other."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from perstack.cli.arguments import (
    add_file_arguments,
    add_model_arguments,
    add_workspace_argument,
)
from perstack.cli.exits import COMPLETED, FAILED
from perstack.cli.model_settings import model_settings
from perstack.cli.output import Terminal
from perstack.cli.stored import stored_events
from perstack.cli.trial import Laboratory, Trial, Verdict, make
from perstack.cli.verdicts import document, junit, sum_up, tell
from perstack.core.trail import Trail
from perstack.definition.load import Loaded, find_config, load
from perstack.errors import ConfigError, StoreError, UnknownExpertError
from perstack.llm.script_text import script_json
from perstack.replay.script import script_of

EXAMPLE = 'Add a table [[experts."NAME".tests]] with query = "…"; docs/testing.md has more.'


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "experts", nargs="*", metavar="EXPERT", help="whose tests; by default everybody's"
    )
    add_file_arguments(parser)
    add_workspace_argument(parser, "the current folder; each test gets a copy of it")
    add_model_arguments(parser)
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--script", type=Path, metavar="FILE", help="play this in every test")
    who.add_argument(
        "--replay", metavar="JOB", help="play what the experts said in this job in every test"
    )
    who.add_argument(
        "--live", action="store_true", help="ask the model, also where a test has a script"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--in-place", action="store_true", help="work in the folder, not in copies")
    where.add_argument("--keep", action="store_true", help="keep the copies, with the jobs in them")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a report for CI, too")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Make the tests and tell what came of them.

    Raises:
        PerstackError: There are none, or they cannot be made at all.
    """
    loaded = load(find_config(options.config, Path.cwd()), strict=options.strict)
    trials = _chosen(loaded, options.experts)
    around = _laboratory(loaded, options)
    with TemporaryDirectory(prefix="perstack-script-") as folder:
        if options.replay is not None:
            around = replace(around, script=_script_of(options, Path(folder)))
        verdicts = anyio.run(_make_all, trials, around, None if options.json else terminal)
    if options.json:
        terminal.line(document(verdicts))
    else:
        sum_up(verdicts, terminal)
    if options.junit is not None:
        _write(options.junit, junit(verdicts))
    return COMPLETED if all(verdict.passed for verdict in verdicts) else FAILED


def _chosen(loaded: Loaded, keys: list[str]) -> list[Trial]:
    experts = loaded.definitions.experts
    for key in keys:
        if key not in experts:
            known = ", ".join(experts) or "none"
            raise UnknownExpertError(
                f"Expert {key!r} is not defined.", hint=f"The experts are: {known}."
            )
    trials = [Trial(key, test) for key in keys or experts for test in experts[key].tests]
    if not trials:
        whose = f"Of {', '.join(keys)}" if keys else f"In {loaded.path}"
        raise ConfigError(f"{whose} there are no tests.", hint=EXAMPLE)
    return trials


def _laboratory(loaded: Loaded, options: Namespace) -> Laboratory:
    is_played = options.script is not None or options.replay is not None
    if is_played and options.provider not in (None, "scripted"):
        raise ConfigError(f"A script plays no model of {options.provider}.", hint="Give only one.")
    workspace = (options.workspace or Path.cwd()).resolve()
    if not workspace.is_dir():
        raise ConfigError(f"The workspace {workspace} is not a folder.")
    settings = replace(
        model_settings(options),
        config=loaded.path,
        transport="cli",
    )
    return Laboratory(
        loaded=loaded,
        settings=settings,
        workspace=workspace,
        script=options.script,
        is_live=options.live,
        is_in_place=options.in_place,
        is_kept=options.keep,
    )


def _script_of(options: Namespace, folder: Path) -> Path:
    """What was said in a stored job, as a file that can be played."""
    (events,) = anyio.run(stored_events, options, options.replay)
    path = folder / "script.json"
    path.write_text(script_json(script_of(Trail(events).steps)), encoding="utf-8")
    return path


async def _make_all(
    trials: list[Trial], around: Laboratory, terminal: Terminal | None
) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for trial in trials:
        verdict = await make(trial, around)
        verdicts.append(verdict)
        if terminal is not None:
            tell(verdict, terminal)
    return verdicts


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error
