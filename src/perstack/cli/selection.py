"""Which events of a job `perstack log` shows."""

import re
from argparse import ArgumentTypeError, Namespace
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from perstack.cli.expression import Expression
from perstack.cli.history import Entry, Wanted
from perstack.core import events as ev
from perstack.core.wire import to_wire

ERRORS = frozenset({"stopRunByError", "retry"})
TOOLS = frozenset({"callTools", "resolveToolResults", "callInteractiveTool"})
DELEGATIONS = frozenset({"callDelegate", "stopRunByDelegate"})

StepFilter = Callable[[int], bool]
Test = Callable[[Entry], bool]


@dataclass(slots=True)
class Counts:
    """What events add up to.

    Attributes:
        steps: The lowest and the highest step number, if there is an event.
    """

    events: int = 0
    errors: int = 0
    tool_calls: int = 0
    delegations: int = 0
    steps: tuple[int, int] | None = None

    def add(self, event: ev.RunEvent) -> None:
        """Count one more."""
        step = event.stamp.step_number
        low, high = self.steps or (step, step)
        self.steps = min(low, step), max(high, step)
        self.events += 1
        self.errors += event.type in ERRORS
        self.tool_calls += len(event.targets) if isinstance(event, ev.CallTools) else 0
        self.delegations += len(event.delegate_to) if isinstance(event, ev.CallDelegate) else 0


@dataclass(frozen=True, slots=True)
class Shown:
    """An event to show, because it matches or because it stands beside one that does."""

    entry: Entry
    is_context: bool = False


@dataclass(slots=True, kw_only=True)
class Selection:
    """Picks events as they come: those of a part of the job that pass every test.

    Attributes:
        part: Which events there are at all; the others are not even context.
        tests: What an event must pass.
        offset: How many that match are left out at first.
        take: How many are shown then; 0 is all.
        context: How many events beside each of these are shown too, on either side.
        matched: What all the events that match add up to, shown or not.
        shown: How many that match were shown.
        beside: How many were shown as context.
    """

    part: Test
    tests: tuple[Test, ...] = ()
    offset: int = 0
    take: int = 0
    context: int = 0
    matched: Counts = field(default_factory=Counts)
    shown: int = 0
    beside: int = 0
    _before: deque[Entry] = field(default_factory=deque[Entry])
    _after: int = 0

    def pick(self, entry: Entry) -> Iterator[Shown]:
        """What is to be shown now that this event has come."""
        if not self.part(entry):
            return
        if self._is_wanted(entry):
            self.shown += 1
            self.beside += len(self._before)
            yield from (Shown(earlier, is_context=True) for earlier in self._before)
            yield Shown(entry)
            self._before.clear()
            self._after = self.context
        elif self._after:
            self._after -= 1
            self.beside += 1
            yield Shown(entry, is_context=True)
        else:
            self._before.append(entry)
            if len(self._before) > self.context:
                self._before.popleft()

    @property
    def is_full(self) -> bool:
        """Whether nothing more will be shown."""
        return self.take > 0 and self.shown == self.take and not self._after

    def _is_wanted(self, entry: Entry) -> bool:
        if not all(test(entry) for test in self.tests):
            return False
        self.matched.add(entry.event)
        is_early = self.matched.events <= self.offset
        return not is_early and (self.take == 0 or self.shown < self.take)


def selection(options: Namespace, take: int) -> Selection:
    """What the options ask for; at most `take` events, 0 takes all."""
    return Selection(
        part=_part(
            Wanted(run_id=options.run, checkpoint_id=options.checkpoint),
        ),
        tests=tuple(_tests(options)),
        offset=options.offset,
        take=take,
        context=options.context,
    )


def _part(wanted: Wanted) -> Test:
    """The events of a run, those that led to a checkpoint, or all."""
    run_id, checkpoint_id = wanted.part_of, wanted.checkpoint_id
    last = int(checkpoint_id.rpartition("-")[2]) if checkpoint_id is not None else None

    def is_part(entry: Entry) -> bool:
        stamp = entry.event.stamp
        is_early = last is None or stamp.sequence <= last
        return run_id is None or (stamp.run_id == run_id and is_early)

    return is_part


def _tests(options: Namespace) -> Iterator[Test]:
    groups = (
        (options.errors, ERRORS),
        (options.tools, TOOLS),
        (options.delegations, DELEGATIONS),
        (options.type is not None, frozenset({options.type})),
    )
    for is_asked_for, types in groups:
        if is_asked_for:
            yield lambda entry, types=types: entry.event.type in types
    step: StepFilter | None = options.step
    if step is not None:
        yield lambda entry: step(entry.event.stamp.step_number)
    expressions: list[Expression] = options.filter or []
    if expressions:
        yield lambda entry: _passes(entry, expressions)


def _passes(entry: Entry, expressions: list[Expression]) -> bool:
    document = to_wire(entry.event, entry.checkpoint)
    return all(expression(document) for expression in expressions)


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
