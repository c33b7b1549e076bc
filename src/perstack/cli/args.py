"""Command-line arguments that several commands share."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import partial
from math import inf
from pathlib import Path
from typing import cast, get_args

from perstack.definition.budget import Budget
from perstack.definition.loader import LoadedDefinitions, find_config, load_definitions
from perstack.definition.model import ReasoningBudget, ReasoningEffort
from perstack.settings import Settings


def _parse_int(text: str, minimum: int) -> int:
    if text.isascii() and text.isdigit() and int(text) >= minimum:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a whole number from {minimum}")


positive_int = partial(_parse_int, minimum=1)
non_negative_int = partial(_parse_int, minimum=0)


def positive_number(text: str) -> float:
    """A number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if 0 < number < inf:
        return number
    raise ArgumentTypeError(f"{text!r} is not a number above 0")


def add_file_arguments(parser: ArgumentParser) -> None:
    """The definition file and how strictly it is read."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        help="definition file; by default the nearest perstack.toml from here upwards",
    )
    parser.add_argument(
        "--strict", action="store_true", help="treat unknown keys in the file as errors"
    )


def load_requested_definitions(
    options: Namespace, *, keep_sound: bool = False
) -> LoadedDefinitions:
    """The definition file of `add_file_arguments`, also without experts that have errors.

    Raises:
        DefinitionError: It cannot be found or accepted.
    """
    return load_definitions(
        find_config(options.config, Path.cwd()), strict=options.strict, keep_sound=keep_sound
    )


def add_workspace_argument(parser: ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--workspace", type=Path, metavar="DIR", help=f"folder of the experts; by default {default}"
    )


def add_store_arguments(parser: ArgumentParser) -> None:
    """Where the store is."""
    add_workspace_argument(parser, "the current folder, else that of the definition file")
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="definition file whose folder is looked in"
    )


def add_json_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def add_event_filter_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--filter", metavar="TYPES", help="event types to print, comma-separated")
    add_wire_argument(parser)


def add_wire_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wire",
        choices=("slim", "full"),
        default="slim",
        help="full: events repeat the conversation and the checkpoint of each step",
    )


def add_engine_arguments(parser: ArgumentParser, workspace_default: str) -> None:
    """The definition file, the workspace, the model, its limits, and the files with its keys."""
    add_file_arguments(parser)
    add_workspace_argument(parser, workspace_default)
    parser.add_argument("--provider", metavar="NAME", help="provider, instead of the file's")
    parser.add_argument("--model", metavar="NAME", help="model, instead of the file's and any tier")
    parser.add_argument(
        "--reasoning-budget",
        type=parse_reasoning_budget,
        metavar="EFFORT|TOKENS",
        help="none, minimal, low, medium, high or a number of tokens",
    )
    parser.add_argument("--max-steps", type=positive_int, metavar="N", help="steps of one request")
    parser.add_argument(
        "--max-tokens", type=positive_int, metavar="N", help="tokens of one request"
    )
    parser.add_argument(
        "--max-cost", type=positive_number, metavar="USD", help="US dollars of one request"
    )
    parser.add_argument(
        "--max-seconds",
        "--max-job-seconds",
        type=positive_number,
        metavar="N",
        help="seconds of one request",
    )
    parser.add_argument(
        "--max-retries", type=non_negative_int, metavar="N", help="retries of a generation"
    )
    parser.add_argument("--timeout", type=positive_int, metavar="MS", help="for one generation")
    add_env_path_argument(parser)


def add_env_path_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--env-path",
        action="append",
        metavar="PATH",
        help="file with environment variables, instead of .env and .env.local; repeatable. Files"
        " are looked for in the current folder, then beside the definition file",
    )


def engine_settings(options: Namespace) -> Settings:
    """The settings of `add_engine_arguments`; the command completes them."""
    budget = Budget(
        max_tokens=options.max_tokens,
        max_cost_usd=options.max_cost,
        max_seconds=options.max_seconds,
    )
    return Settings(
        config=options.config,
        workspace=options.workspace,
        is_strict=options.strict,
        env_paths=tuple(options.env_path) if options.env_path else None,
        provider=options.provider,
        model=options.model,
        reasoning_budget=options.reasoning_budget,
        max_steps=options.max_steps,
        budget=None if budget == Budget() else budget,
        max_retries=options.max_retries,
        timeout_ms=options.timeout,
    )


def parse_reasoning_budget(text: str) -> ReasoningBudget:
    """An effort or a number of tokens."""
    if text in get_args(ReasoningEffort):
        return cast("ReasoningEffort", text)
    if text.isascii() and text.isdigit():
        return int(text)
    efforts = ", ".join(get_args(ReasoningEffort))
    raise ArgumentTypeError(f"{text!r} is neither one of {efforts} nor a number of tokens")
