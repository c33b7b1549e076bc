"""Command-line arguments that several commands share."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import cast, get_args

from perstack.definition.model import ReasoningBudget, ReasoningEffort
from perstack.settings import Settings


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


def add_workspace_argument(parser: ArgumentParser, default: str) -> None:
    """The folder that experts work in."""
    parser.add_argument(
        "--workspace", type=Path, metavar="DIR", help=f"folder of the experts; by default {default}"
    )


def add_store_arguments(parser: ArgumentParser) -> None:
    """Where the store is."""
    add_workspace_argument(parser, "the current folder, else that of the definition file")
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="definition file whose folder is looked in"
    )


def add_model_arguments(parser: ArgumentParser) -> None:
    """The model, its limits, and the files with its keys."""
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
        "--max-retries", type=non_negative_int, metavar="N", help="retries of a generation"
    )
    parser.add_argument("--timeout", type=positive_int, metavar="MS", help="for one generation")
    parser.add_argument(
        "--env-path",
        action="append",
        metavar="PATH",
        help="file with environment variables, instead of .env and .env.local; repeatable",
    )


def env_paths(options: Namespace) -> tuple[str, ...] | None:
    """The files given with `--env-path`, `None` if there are none."""
    paths: list[str] | None = options.env_path
    return tuple(paths) if paths else None


def positive_int(text: str) -> int:
    """A whole number from 1."""
    return _parse_int_at_least(text, 1)


def non_negative_int(text: str) -> int:
    """A whole number from 0."""
    return _parse_int_at_least(text, 0)


def _parse_int_at_least(text: str, minimum: int) -> int:
    if text.isascii() and text.isdigit() and int(text) >= minimum:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a whole number from {minimum}")


def parse_reasoning_budget(text: str) -> ReasoningBudget:
    """An effort or a number of tokens."""
    if text in get_args(ReasoningEffort):
        return cast("ReasoningEffort", text)
    if text.isascii() and text.isdigit():
        return int(text)
    efforts = ", ".join(get_args(ReasoningEffort))
    raise ArgumentTypeError(f"{text!r} is neither one of {efforts} nor a number of tokens")


def model_settings(options: Namespace) -> Settings:
    """Settings of the model and its limits; the command completes them."""
    return Settings(
        env_paths=env_paths(options),
        provider=options.provider,
        model=options.model,
        reasoning_budget=options.reasoning_budget,
        max_steps=options.max_steps,
        max_retries=options.max_retries,
        timeout_ms=options.timeout,
    )
