"""`perstack replay`: a stored job done again from its record, and compared with it."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio

from perstack.analysis.diff import to_plain
from perstack.cli.args import add_file_arguments, add_workspace_argument
from perstack.cli.job_log import load_events
from perstack.cli.render.diff import StyledLine, difference_lines
from perstack.cli.terminal import EXIT_FAILURE, EXIT_SUCCESS, Terminal
from perstack.core.events import RunEvent, StartRun
from perstack.core.history import JobHistory
from perstack.definition.loader import LoadedDefinitions, find_config, load_definitions
from perstack.llm.scripted.script_text import script_json, script_toml
from perstack.replay.recording import Divergence
from perstack.replay.runner import ReplayResult, replay
from perstack.replay.script_export import export_script


def add_arguments(parser: ArgumentParser) -> None:
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
    (events,) = anyio.run(load_events, options, options.job)
    if options.is_script_wanted:
        script = export_script(JobHistory(events).recorded_events)
        terminal.write_line(script_json(script) if options.json else script_toml(script))
        return EXIT_SUCCESS
    loaded = load_definitions(find_config(options.config, Path.cwd()), strict=options.strict)
    result = anyio.run(replay, events, loaded.definitions)
    if options.json:
        terminal.write_line(
            json.dumps(_report_document(events, result, loaded), ensure_ascii=False, indent=2)
        )
    else:
        for line, colour in _report_lines(events, result, loaded):
            terminal.write_line(line, *([colour] if colour else ()))
    return EXIT_SUCCESS if result.is_identical else EXIT_FAILURE


def _report_lines(
    events: Sequence[RunEvent], result: ReplayResult, loaded: LoadedDefinitions
) -> Iterator[StyledLine]:
    job_id = events[0].stamp.job_id
    runs = "1 run" if result.runs == 1 else f"{result.runs} runs"
    if _is_definition_changed(events, loaded):
        yield f"{loaded.path} is not as it was when the job was run.", "yellow"
    if result.divergence is None:
        yield f"Job {job_id} is identical: {result.events} events of {runs}.", "green"
        return
    yield (
        f"Job {job_id} differs after {result.matched} of {result.events} events of {runs}.",
        "red",
    )
    yield from _divergence_lines(result.divergence)


def _divergence_lines(divergence: Divergence) -> Iterator[StyledLine]:
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


def _report_document(
    events: Sequence[RunEvent], result: ReplayResult, loaded: LoadedDefinitions
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "jobId": events[0].stamp.job_id,
        "isIdentical": result.is_identical,
        "runs": result.runs,
        "events": result.events,
        "matchedEvents": result.matched,
        "isDefinitionChanged": _is_definition_changed(events, loaded),
    }
    divergence = result.divergence
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
            "recorded": to_plain(recorded) if recorded else None,
            "replayed": to_plain(replayed) if replayed else None,
            "remark": divergence.remark or None,
            "differences": [
                {"path": each.path, "recorded": each.one, "replayed": each.other}
                for each in divergence.differences
            ],
        },
    }


def _is_definition_changed(events: Sequence[RunEvent], loaded: LoadedDefinitions) -> bool:
    recorded_hashes = {event.definition_hash for event in events if isinstance(event, StartRun)}
    return bool(recorded_hashes - {loaded.digest, None})
