"""`perstack replay`: a stored job done again from its record, and compared with it."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio

from perstack.cli.arguments import add_file_arguments, add_workspace_argument
from perstack.cli.differences import Line, difference_lines
from perstack.cli.exits import COMPLETED, FAILED
from perstack.cli.output import Terminal
from perstack.cli.stored import stored_events
from perstack.core.comparison import plain
from perstack.core.events import RunEvent, StartRun
from perstack.core.trail import Trail
from perstack.definition.load import Loaded, find_config, load
from perstack.llm.script_text import script_json, script_toml
from perstack.replay.perform import Replay, replay
from perstack.replay.script import script_of
from perstack.replay.tape import Divergence


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("job", nargs="?", metavar="JOB", help="the job; by default the latest")
    add_file_arguments(parser)
    add_workspace_argument(parser, "the current folder, else that of the definition file")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument(
        "--as-script",
        dest="is_script_wanted",
        action="store_true",
        help="replay nothing; write what the experts said as a script for the scripted provider",
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    """Do the job again and say what came of it, or write its script.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
        NotFoundError: There is no such job, or none at all.
        StoreError: The store cannot be read.
        UnknownExpertError: The expert of the job is not defined.
        ConfigError: The script cannot be written in TOML.
    """
    (events,) = anyio.run(stored_events, options, options.job)
    if options.is_script_wanted:
        script = script_of(Trail(events).steps)
        terminal.line(script_json(script) if options.json else script_toml(script))
        return COMPLETED
    loaded = load(find_config(options.config, Path.cwd()), strict=options.strict)
    found = anyio.run(replay, events, loaded.definitions)
    if options.json:
        terminal.line(json.dumps(_document(events, found, loaded), ensure_ascii=False, indent=2))
    else:
        for line, colour in _lines(events, found, loaded):
            terminal.line(line, *([colour] if colour else ()))
    return COMPLETED if found.is_identical else FAILED


def _lines(events: Sequence[RunEvent], found: Replay, loaded: Loaded) -> Iterator[Line]:
    job_id = events[0].stamp.job_id
    runs = "1 run" if found.runs == 1 else f"{found.runs} runs"
    if _is_changed(events, loaded):
        yield f"{loaded.path} is not as it was when the job was run.", "yellow"
    if found.divergence is None:
        yield f"Job {job_id} is identical: {found.events} events of {runs}.", "green"
        return
    yield (
        f"Job {job_id} differs after {found.matched} of {found.events} events of {runs}.",
        "red",
    )
    yield from _place(found.divergence)


def _place(divergence: Divergence) -> Iterator[Line]:
    event = divergence.recorded or divergence.replayed
    if event is not None:
        stamp = event.stamp
        yield f"[Step {stamp.step_number}] {event.type}  {stamp.expert_key}  {event.id}", None
    if divergence.recorded is None:
        yield "  The record ends before it.", None
    elif divergence.replayed is None:
        yield f"  Instead of it, {divergence.remark}.", None
    for difference in divergence.differences:
        yield from difference_lines(difference)


def _document(events: Sequence[RunEvent], found: Replay, loaded: Loaded) -> dict[str, Any]:
    document: dict[str, Any] = {
        "jobId": events[0].stamp.job_id,
        "isIdentical": found.is_identical,
        "runs": found.runs,
        "events": found.events,
        "matchedEvents": found.matched,
        "isDefinitionChanged": _is_changed(events, loaded),
    }
    divergence = found.divergence
    if divergence is None:
        return document
    recorded, replayed = divergence.recorded, divergence.replayed
    event = recorded or replayed
    return {
        **document,
        "divergence": {
            "runId": divergence.run_id,
            "expertKey": event.stamp.expert_key if event else None,
            "stepNumber": event.stamp.step_number if event else None,
            "sequence": event.stamp.sequence if event else None,
            "recorded": plain(recorded) if recorded else None,
            "replayed": plain(replayed) if replayed else None,
            "remark": divergence.remark or None,
            "differences": [
                {"path": each.path, "recorded": each.one, "replayed": each.other}
                for each in divergence.differences
            ],
        },
    }


def _is_changed(events: Sequence[RunEvent], loaded: Loaded) -> bool:
    then = {event.definition_hash for event in events if isinstance(event, StartRun)}
    return bool(then - {loaded.digest, None})
