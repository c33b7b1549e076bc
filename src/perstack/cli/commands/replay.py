"""`perstack replay`: a stored job done again from its record, and compared with it."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

import anyio

from perstack.analysis.diff import to_plain
from perstack.cli.args import (
    add_file_arguments,
    add_json_argument,
    add_workspace_argument,
    load_requested_definitions,
)
from perstack.cli.formatting import format_count
from perstack.cli.job_log import load_events
from perstack.cli.render.diff import difference_lines
from perstack.cli.terminal import EXIT_FAILURE, EXIT_SUCCESS, Line, Terminal
from perstack.core.events import RunEvent, StartRun
from perstack.core.history import JobHistory
from perstack.definition.loader import LoadedDefinitions
from perstack.replay.runner import ReplayResult, replay
from perstack.replay.script_export import export_script_text


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", nargs="?", metavar="JOB", help="the job; by default the latest")
    add_file_arguments(parser)
    add_workspace_argument(parser, "the current folder, else that of the definition file")
    add_json_argument(parser)
    parser.add_argument(
        "--as-script",
        action="store_true",
        help="replay nothing; write what the experts said as a script for the scripted provider",
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    (events,) = anyio.run(load_events, options, options.job)
    if options.as_script:
        history = JobHistory(events).recorded_events
        terminal.write_line(export_script_text(history, is_json=options.json))
        return EXIT_SUCCESS
    loaded = load_requested_definitions(options)
    result = anyio.run(replay, events, loaded.definitions)
    if options.json:
        terminal.write_json(_report_document(events, result, loaded))
    else:
        terminal.write_lines(_report_lines(events, result, loaded))
    return EXIT_SUCCESS if result.is_identical else EXIT_FAILURE


def _report_lines(
    events: Sequence[RunEvent], result: ReplayResult, loaded: LoadedDefinitions
) -> Iterator[Line]:
    job_id = events[0].stamp.job_id
    runs = format_count(result.runs, "run")
    if _is_definition_changed(events, loaded):
        yield f"{loaded.path} is not as it was when the job was run.", "yellow"
    if result.divergence is None:
        yield f"Job {job_id} is identical: {result.events} events of {runs}.", "green"
        return
    counts = f"{result.matched} of {result.events} events of {runs}"
    yield f"Job {job_id} differs after {counts}.", "red"
    divergence = result.divergence
    event = divergence.recorded or divergence.replayed
    if event is not None:
        stamp = event.stamp
        yield f"[Step {stamp.step_number}] {event.type}  {stamp.expert_key}  {event.id}"
    if divergence.recorded is None:
        yield "  The record ends before it."
    elif divergence.replayed is None:
        yield f"  Instead of it, {divergence.remark}."
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
