"""`perstack fork`: continues a job from one of its steps with another model or instruction."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

import anyio

from perstack.cli.args import add_engine_arguments, add_event_filter_argument
from perstack.cli.commands.run import run_job
from perstack.cli.event_loop import run_async
from perstack.cli.input_text import read_argument_file
from perstack.cli.job_log import load_events, require_job
from perstack.cli.run_options import run_options_from
from perstack.cli.terminal import Terminal
from perstack.core.events import ResumeFromStop, RunEvent, StartRun, parse_checkpoint_id
from perstack.core.history import JobHistory
from perstack.definition.loader import load_definitions
from perstack.errors import ConfigError, NotFoundError, UnknownExpertError
from perstack.runtime.start_plan import Fork, JobRequest

_JOB_AND_STEP = re.compile(r"([^@]+)(?:@(\d+))?")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "place", metavar="JOB[@STEP]", help="the job, and the step after which the fork begins"
    )
    parser.add_argument("query", nargs="?", default="", metavar="QUERY", help="what to say first")
    parser.add_argument(
        "--instruction-from",
        type=Path,
        metavar="FILE",
        help="another instruction: a text, or that of the expert in another .toml",
    )
    add_engine_arguments(parser, "the current folder")
    add_event_filter_argument(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    job_id, step = _parse_job_and_step(options.place)
    (events,) = anyio.run(load_events, options, job_id)
    expert_key = events[0].stamp.expert_key
    require_job(options, job_id)
    run_options = run_options_from(options)
    request = JobRequest(
        query=options.query,
        job_id=job_id,
        checkpoint_id=None if step is None else checkpoint_at_end_of_step(events, step),
        max_steps=options.max_steps,
        fork=Fork(instruction=_read_instruction(options.instruction_from, expert_key)),
    )
    return run_async(run_job, run_options, request, terminal)


def checkpoint_at_end_of_step(events: tuple[RunEvent, ...], step: int) -> str:
    """The id of the checkpoint at the end of a step of the newest root run.

    What that run took over from an earlier one counts as its own.

    Raises:
        NotFoundError: It has no such step.
    """
    history = JobHistory(events)
    root_run_ids = {
        after.run_id for _, after in history.recorded_events if after.delegated_by is None
    }
    root_events = [event for event in events if event.stamp.run_id in root_run_ids]
    run_id, last = root_events[-1].stamp.run_id, root_events[-1].stamp.sequence
    while True:
        run_events = [
            event
            for event in root_events
            if event.stamp.run_id == run_id and event.stamp.sequence <= last
        ]
        step_events = [event for event in run_events if event.stamp.step_number == step]
        if step_events:
            return step_events[-1].id
        first = run_events[0]
        base = first.continued_from if isinstance(first, StartRun | ResumeFromStop) else None
        if base is None:
            steps = sorted({event.stamp.step_number for event in root_events})
            stamp = root_events[0].stamp
            raise NotFoundError(
                f"Job {stamp.job_id} has no step {step} of {stamp.expert_key}.",
                hint=f"Its steps are {', '.join(map(str, steps))}; others belong to its delegates.",
            )
        run_id, sequence = parse_checkpoint_id(base)
        last = int(sequence)


def _parse_job_and_step(text: str) -> tuple[str, int | None]:
    match = _JOB_AND_STEP.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not a job with a step.", hint="Write JOB or JOB@STEP.")
    return match[1], int(match[2]) if match[2] else None


def _read_instruction(path: Path | None, expert_key: str) -> str | None:
    if path is None:
        return None
    if path.suffix == ".toml":
        expert = load_definitions(path).definitions.experts.get(expert_key)
        if expert is None:
            raise UnknownExpertError(f"{path} has no expert {expert_key!r}.")
        return expert.instruction
    return read_argument_file(path, "--instruction-from")
