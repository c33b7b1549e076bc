"""The options of `perstack run`, read from its arguments and checked as a whole."""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from perstack.cli.args import (
    add_engine_arguments,
    add_event_filter_argument,
    engine_settings,
    load_requested_definitions,
)
from perstack.cli.input_text import read_argument_file, read_stdin
from perstack.cli.terminal import Terminal
from perstack.core.wire import EVENT_TYPES, STREAMING_TYPES
from perstack.errors import ConfigError
from perstack.runtime.answers import InteractiveAnswer
from perstack.runtime.start_plan import JobRequest
from perstack.settings import Settings

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a request is executed and shown.

    Attributes:
        settings: For the engine.
        event_types: The events to print; all if `None`.
        is_wire_full: Whether they have the full shape.
        repeated_options: The options that a command which continues the job must repeat.
    """

    settings: Settings
    event_types: frozenset[str] | None
    is_wire_full: bool
    repeated_options: tuple[str, ...]


def add_run_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("expert", nargs="?", metavar="EXPERT", help="key of the expert")
    parser.add_argument(
        "query", nargs="?", metavar="QUERY", help="the task; - or nothing reads stdin"
    )
    parser.add_argument(
        "--input", metavar="JSON", help="the arguments that the expert declares; or @FILE"
    )
    add_engine_arguments(parser, "the current folder")
    parser.add_argument("--job-id", metavar="ID", help="id for the new job")
    parser.add_argument("--run-id", metavar="ID", help="id for the run that begins")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--continue",
        dest="is_for_newest",
        action="store_true",
        help="continue the newest job; without a query it goes on where it stopped",
    )
    which.add_argument("--continue-job", metavar="ID", help="continue this job")
    parser.add_argument(
        "--resume-from", metavar="ID", help="with --continue-job: branch from this checkpoint"
    )
    parser.add_argument(
        "-i",
        "--interactive-tool-call-result",
        dest="is_answer",
        action="store_true",
        help="the query answers the open question: text, or JSON with toolCallId and text",
    )
    parser.add_argument("--verbose", action="store_true", help="say what goes on inside on stderr")
    add_event_filter_argument(parser)


def run_options_from(options: Namespace) -> RunOptions:
    """The options of a command that works on a job until it stops.

    Raises:
        ConfigError: `--filter` names no event type.
    """
    event_types = _parse_event_types(options.filter)
    settings = replace(
        engine_settings(options),
        is_streaming=not event_types or bool(event_types & {*STREAMING_TYPES}),
        transport="cli",
    )
    repeated: list[tuple[str, str | Path | None]] = [
        ("--config", options.config),
        ("--workspace", options.workspace),
        ("--provider", options.provider),
        ("--model", options.model),
        *(("--env-path", path) for path in options.env_path or ()),
    ]
    return RunOptions(
        settings=settings,
        event_types=event_types,
        is_wire_full=options.wire == "full",
        repeated_options=tuple(
            word for flag, value in repeated if value is not None for word in (flag, str(value))
        ),
    )


def job_request_from(options: Namespace, terminal: Terminal) -> JobRequest:
    """The request of the arguments of `perstack run`, and of stdin if they refer to it.

    Raises:
        ConfigError: Arguments are missing or cannot be read.
    """
    if options.is_answer:
        _take_one_word_as_answer(options)
    query = _read_query(options, terminal)
    answer = _parse_answer(query) if options.is_answer else None
    return JobRequest(
        expert_key=options.expert,
        query="" if answer else query,
        job_id=options.continue_job,
        new_job_id=options.job_id,
        new_run_id=options.run_id,
        checkpoint_id=options.resume_from,
        answer=answer,
        inputs=_parse_inputs(options.input),
        max_steps=options.max_steps,
    )


def check_combination(options: Namespace) -> None:
    """Check that the arguments of `perstack run` go together.

    Raises:
        ConfigError: They do not.
    """
    is_continuing = options.is_for_newest or options.continue_job is not None
    if options.resume_from is not None and options.continue_job is None:
        raise ConfigError("--resume-from requires --continue-job.")
    if options.is_answer and not is_continuing:
        raise ConfigError(
            "--interactive-tool-call-result requires --continue or --continue-job.",
            hint="It answers the question that a stopped job has asked.",
        )
    if options.is_answer and options.input is not None:
        raise ConfigError("--input and --interactive-tool-call-result do not go together.")
    if options.job_id is not None and is_continuing:
        raise ConfigError(
            "--job-id names a new job and does not go together with --continue or --continue-job."
        )
    if options.expert is None and not is_continuing:
        raise ConfigError(
            "Expert key is required.", hint='Write perstack run EXPERT "what it shall do".'
        )


def _take_one_word_as_answer(options: Namespace) -> None:
    """A single word is the answer, unless it is the key of an expert: then that comes on stdin."""
    word: str | None = options.expert
    if word is None or options.query is not None:
        return
    loaded = load_requested_definitions(options, keep_sound=True)
    if word == STDIN or (word not in loaded.definitions.experts and word not in loaded.faults):
        options.expert, options.query = None, word


def _read_query(options: Namespace, terminal: Terminal) -> str:
    query: str | None = options.query
    is_continuing = options.is_for_newest or options.continue_job is not None
    is_needed = options.is_answer or not (is_continuing or options.input is not None)
    # A continued job needs no query, and waiting for one would hang a script.
    if query == STDIN or (query is None and is_needed and not terminal.stdin.isatty()):
        query = read_stdin(terminal)
        is_needed = is_needed or options.query == STDIN
    if is_needed and not (query or "").strip():
        raise ConfigError(
            "Query is required.", hint="Give it after the expert key, or on stdin with -."
        )
    return query or ""


def _parse_inputs(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    if text.startswith("@"):
        text = read_argument_file(text[1:], "--input")
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConfigError(
            "--input is no JSON object.",
            hint="""Write --input '{"name": "value"}', or --input @FILE.""",
        )
    return cast("dict[str, Any]", value)


def _parse_answer(text: str) -> InteractiveAnswer:
    """The answer to a question: JSON that names the call, or else simply the text."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    match value:
        case {"toolCallId": str(call_id), "text": str(answer)}:
            return InteractiveAnswer(text=answer, tool_call_id=call_id)
        case _:
            return InteractiveAnswer(text=text)


def _parse_event_types(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    event_types = frozenset(word.strip() for word in text.split(",") if word.strip())
    unknown = sorted(event_types - {*EVENT_TYPES})
    if unknown or not event_types:
        near = get_close_matches(unknown[0], EVENT_TYPES, n=1) if unknown else []
        raise ConfigError(
            f"--filter: there is no event type {unknown[0]!r}."
            if unknown
            else "--filter names no event type.",
            hint=f"Did you mean {near[0]}?" if near else "docs/events.md lists them.",
        )
    return event_types
