"""Which events of a job `perstack log` shows."""

import operator
import re
from argparse import ArgumentTypeError, Namespace
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from perstack.cli.job_log import JobSelector
from perstack.core import events as ev
from perstack.core.events import parse_checkpoint_id
from perstack.core.history import RecordedEvent
from perstack.core.step import Step, StepTracker
from perstack.core.wire import to_wire

Json = dict[str, Any]
LiteralValue = str | float | bool
FilterExpression = Callable[[Json], bool]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_EXPRESSION = re.compile(r"\s*((?:\.[\w$@/-]+(?:\[\])?)+)\s*(==|!=|>=|<=|>|<)(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_QUOTED_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")


def parse_filter_expression(text: str) -> FilterExpression:
    """A test of events: `.path op value`.

    A path leads through objects; at an array it leads into each of its elements, with or without
    `[]`. An event passes if anything that the path leads to satisfies the comparison; a
    missing value never does. A value is a quoted string, a number, `true`, `false` or a bare word.
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise ArgumentTypeError(
            f"Invalid filter expression: {text}; write .path op value, such as .stepNumber > 3"
        )
    path = match[1].replace("[]", "").split(".")[1:]
    compare = _OPERATORS[match[2]]
    expected = _parse_literal(match[3].strip(), text)

    def matches(event: Json) -> bool:
        return any(_satisfies(compare, value, expected) for value in _values_at(event, path))

    return matches


def _parse_literal(word: str, text: str) -> LiteralValue:
    if not word:
        raise ArgumentTypeError(f"Missing value in filter expression: {text}")
    if word in ("true", "false"):
        return word == "true"
    if _NUMBER.fullmatch(word):
        return float(word) if set(word) & set(".eE") else int(word)
    if _QUOTED_STRING.fullmatch(word):
        return word[1:-1]
    if set(word) & set("\"'=<>") or word.split() != [word]:
        raise ArgumentTypeError(
            f"Invalid filter expression: {text}; quote a value of several words"
        )
    return word


def _values_at(value: object, path: list[str]) -> Iterator[object]:
    """All values at a path; an array counts as its elements."""
    if isinstance(value, list):
        for element in cast("list[object]", value):
            yield from _values_at(element, path)
    elif not path:
        yield value
    elif isinstance(value, dict):
        fields = cast("Json", value)
        if path[0] in fields:
            yield from _values_at(fields[path[0]], path[1:])


def _satisfies(compare: Callable[[Any, Any], bool], actual: object, expected: LiteralValue) -> bool:
    # In Python true is 1; in JSON it is not.
    is_same_type = isinstance(actual, str) == isinstance(expected, str) and (
        isinstance(actual, bool) == isinstance(expected, bool)
    )
    if compare in (operator.eq, operator.ne):
        return (is_same_type and actual == expected) == (compare is operator.eq)
    return is_same_type and isinstance(actual, str | int | float) and compare(actual, expected)


ERROR_TYPES = frozenset({"stopRunByError", "retry"})
TOOL_TYPES = frozenset({"callTools", "resolveToolResults", "callInteractiveTool"})
DELEGATION_TYPES = frozenset({"callDelegate", "stopRunByDelegate"})

StepPredicate = Callable[[int], bool]
EntryPredicate = Callable[[RecordedEvent], bool]
DocumentPredicate = Callable[[RecordedEvent, Step | None], bool]


@dataclass(slots=True)
class EventCounts:
    """Totals over events.

    Attributes:
        steps: The lowest and the highest step number, if there is an event.
    """

    events: int = 0
    errors: int = 0
    tool_calls: int = 0
    delegations: int = 0
    steps: tuple[int, int] | None = None

    def add(self, event: ev.RunEvent) -> None:
        step = event.stamp.step_number
        low, high = self.steps or (step, step)
        self.steps = min(low, step), max(high, step)
        self.events += 1
        self.errors += event.type in ERROR_TYPES
        self.tool_calls += len(event.targets) if isinstance(event, ev.CallTools) else 0
        self.delegations += len(event.delegate_to) if isinstance(event, ev.CallDelegate) else 0


@dataclass(frozen=True, slots=True)
class SelectedEvent:
    """An event to show with its step, because it matches or is next to one that does."""

    entry: RecordedEvent
    step: Step | None
    is_context: bool = False


@dataclass(slots=True, kw_only=True)
class EventFilter:
    """Picks events as they come: those of a part of the job that pass every test.

    Attributes:
        is_in_scope: Which events there are at all; the others are not even context.
        predicates: What an event must pass.
        offset: How many that match are left out at first.
        take: How many are shown then; 0 is all.
        context: How many events beside each of these are shown too, on either side.
        matched: What all the events that match add up to, shown or not.
        shown_count: How many that match were shown.
        context_count: How many were shown as context.
    """

    is_in_scope: EntryPredicate
    predicates: tuple[DocumentPredicate, ...] = ()
    offset: int = 0
    take: int = 0
    context: int = 0
    matched: EventCounts = field(default_factory=EventCounts)
    shown_count: int = 0
    context_count: int = 0
    _preceding: deque[SelectedEvent] = field(default_factory=deque[SelectedEvent])
    _steps: StepTracker = field(default_factory=StepTracker)
    _following_due: int = 0

    def select(self, entry: RecordedEvent) -> Iterator[SelectedEvent]:
        """The events to show after this one: it, and context beside it."""
        step = self._steps.follow(entry.event, entry.checkpoint)
        if not self.is_in_scope(entry):
            return
        if self._is_selected(entry, step):
            self.shown_count += 1
            self.context_count += len(self._preceding)
            yield from self._preceding
            yield SelectedEvent(entry, step)
            self._preceding.clear()
            self._following_due = self.context
        elif self._following_due:
            self._following_due -= 1
            self.context_count += 1
            yield SelectedEvent(entry, step, is_context=True)
        else:
            self._preceding.append(SelectedEvent(entry, step, is_context=True))
            if len(self._preceding) > self.context:
                self._preceding.popleft()

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing more will be shown."""
        return self.take > 0 and self.shown_count == self.take and not self._following_due

    def _is_selected(self, entry: RecordedEvent, step: Step | None) -> bool:
        if not all(test(entry, step) for test in self.predicates):
            return False
        self.matched.add(entry.event)
        is_before_offset = self.matched.events <= self.offset
        return not is_before_offset and (self.take == 0 or self.shown_count < self.take)


def event_filter_from(options: Namespace, selector: JobSelector, take: int) -> EventFilter:
    """What the options ask for; at most `take` events, 0 takes all."""
    return EventFilter(
        is_in_scope=_scope_predicate(selector),
        predicates=tuple(_predicates(options)),
        offset=options.offset,
        take=take,
        context=options.context,
    )


def _scope_predicate(selector: JobSelector) -> EntryPredicate:
    """The events of a run, those that led to a checkpoint, or all."""
    run_id, checkpoint_id = selector.target_run_id, selector.checkpoint_id
    last = int(parse_checkpoint_id(checkpoint_id).sequence) if checkpoint_id is not None else None

    def is_in_scope(entry: RecordedEvent) -> bool:
        stamp = entry.event.stamp
        is_early = last is None or stamp.sequence <= last
        return run_id is None or (stamp.run_id == run_id and is_early)

    return is_in_scope


def _predicates(options: Namespace) -> Iterator[DocumentPredicate]:
    groups = (
        (options.errors, ERROR_TYPES),
        (options.tools, TOOL_TYPES),
        (options.delegations, DELEGATION_TYPES),
        (options.type is not None, frozenset({options.type})),
    )
    for is_requested, types in groups:
        if is_requested:
            yield lambda entry, _step, types=types: entry.event.type in types
    is_step: StepPredicate | None = options.step
    if is_step is not None:
        yield lambda entry, _step: is_step(entry.event.stamp.step_number)
    expressions: list[FilterExpression] = options.filter or []
    if expressions:

        def satisfies_all(entry: RecordedEvent, step: Step | None) -> bool:
            document = to_wire(entry.event, entry.checkpoint, step)
            return all(expression(document) for expression in expressions)

        yield satisfies_all


def parse_step_filter(text: str) -> StepPredicate:
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
    compare, number = _OPERATORS[bound[1] or "=="], int(bound[2])
    return lambda step: compare(step, number)
