"""Which events of a job `perstack log` shows."""

import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perstack.cli.history import Entry

ERRORS = frozenset({"stopRunByError", "retry"})
TOOLS = frozenset({"callTools", "resolveToolResults", "callInteractiveTool"})
DELEGATIONS = frozenset({"callDelegate", "stopRunByDelegate"})

StepFilter = Callable[[int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The events to show, and of how many that match all filters."""

    shown: tuple[Entry, ...]
    matched: int
    total: int


def select(entries: Sequence[Entry], options: Namespace) -> Selection:
    """The events that pass every filter, then from `offset` on at most `take`; 0 takes all."""
    groups = [
        types
        for is_wanted, types in (
            (options.errors, ERRORS),
            (options.tools, TOOLS),
            (options.delegations, DELEGATIONS),
            (options.type is not None, frozenset({options.type})),
        )
        if is_wanted
    ]
    step: StepFilter | None = options.step
    matched = [
        entry
        for entry in entries
        if all(entry.event.type in types for types in groups)
        and (options.run is None or entry.event.stamp.run_id == options.run)
        and (step is None or step(entry.event.stamp.step_number))
    ]
    end = options.offset + options.take if options.take else None
    return Selection(
        shown=tuple(matched[options.offset : end]), matched=len(matched), total=len(entries)
    )


def step_filter(text: str) -> StepFilter:
    """A test of step numbers: `5`, `>5`, `>=5`, `<5`, `<=5` or `1-10`, both ends included."""
    span = re.fullmatch(r"(\d+)-(\d+)", text)
    if span is not None:
        low, high = int(span[1]), int(span[2])
        if low > high:
            raise ArgumentTypeError(f"Invalid step filter: {text} begins after its end")
        return lambda step: low <= step <= high
    bound = re.fullmatch(r"(>=|<=|>|<)?(\d+)", text)
    if bound is None:
        raise ArgumentTypeError(f"Invalid step filter: {text}; write 5, >5, >=5, <5, <=5 or 1-10")
    number = int(bound[2])
    tests: dict[str | None, StepFilter] = {
        None: lambda step: step == number,
        ">": lambda step: step > number,
        ">=": lambda step: step >= number,
        "<": lambda step: step < number,
        "<=": lambda step: step <= number,
    }
    return tests[bound[1]]
