"""`perstack fork`: a job taken up again at one of its steps, with another model or instruction."""

import re
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

import anyio

from perstack.cli.arguments import add_file_arguments, add_model_arguments, add_workspace_argument
from perstack.cli.order import Order, read_settings, read_types, repeated_options
from perstack.cli.output import Terminal
from perstack.cli.run import perform
from perstack.cli.stored import stored_events
from perstack.core.events import ResumeFromStop, RunEvent, StartRun
from perstack.core.trail import Trail
from perstack.definition.load import load
from perstack.errors import ConfigError, NotFoundError, UnknownExpertError
from perstack.runtime.continuation import Fork, JobRequest

_PLACE = re.compile(r"([^@]+)(?:@(\d+))?")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
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
    add_file_arguments(parser)
    add_workspace_argument(parser, "the current folder")
    add_model_arguments(parser)
    parser.add_argument("--filter", metavar="TYPES", help="event types to print, comma-separated")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Begin the fork and work on it until it stops.

    Raises:
        PerstackError: It could not be begun, or the store failed.
    """
    job_id, step = _place(options.place)
    (events,) = anyio.run(stored_events, options, job_id)
    expert_key = events[0].stamp.expert_key
    types = read_types(options.filter)
    order = Order(
        settings=read_settings(options, types),
        request=JobRequest(
            query=options.query,
            job_id=job_id,
            checkpoint_id=None if step is None else end_of_step(events, step),
            max_steps=options.max_steps,
            fork=Fork(instruction=_instruction(options.instruction_from, expert_key)),
        ),
        types=types,
        repeated=repeated_options(options),
    )
    return anyio.run(partial(perform, order, terminal))


def end_of_step(events: tuple[RunEvent, ...], step: int) -> str:
    """The id of the checkpoint at the end of a step of the newest run that nobody delegated.

    What that run took over from an earlier one counts as its own.

    Raises:
        NotFoundError: It has no such step.
    """
    trail = Trail(events)
    roots = {after.run_id for _, after in trail.steps if after.delegated_by is None}
    own = [event for event in events if event.stamp.run_id in roots]
    run_id, last = own[-1].stamp.run_id, own[-1].stamp.sequence
    while True:
        course = [
            event for event in own if event.stamp.run_id == run_id and event.stamp.sequence <= last
        ]
        found = [event for event in course if event.stamp.step_number == step]
        if found:
            return found[-1].id
        first = course[0]
        base = first.continued_from if isinstance(first, StartRun | ResumeFromStop) else None
        if base is None:
            raise _no_step(own, step)
        run_id, _, sequence = base.rpartition("-")
        last = int(sequence)


def _no_step(own: list[RunEvent], step: int) -> NotFoundError:
    numbers = ", ".join(map(str, sorted({event.stamp.step_number for event in own})))
    return NotFoundError(
        f"Job {own[0].stamp.job_id} has no step {step} of {own[0].stamp.expert_key}.",
        hint=f"Its steps are {numbers}; others belong to its delegates.",
    )


def _place(text: str) -> tuple[str, int | None]:
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ConfigError(f"{text!r} is not a job with a step.", hint="Write JOB or JOB@STEP.")
    return found[1], int(found[2]) if found[2] else None


def _instruction(path: Path | None, expert_key: str) -> str | None:
    if path is None:
        return None
    if path.suffix == ".toml":
        expert = load(path).definitions.experts.get(expert_key)
        if expert is None:
            raise UnknownExpertError(f"{path} has no expert {expert_key!r}.")
        return expert.instruction
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"--instruction-from: {path} cannot be read: {reason}.") from None
