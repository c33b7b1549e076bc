"""Two jobs side by side: runs matched by expert and order, steps by their place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

from perstack.analysis.transcript import RunTranscript, StepTranscript
from perstack.core.events import RunEvent, StartRun
from perstack.core.messages import InstructionMessage

IGNORED_FIELDS = frozenset({"timestamp", "activationId", "traceParent", "definitionHash"})
"""Fields that say when, in which process and trace, and from which file, not what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value that is not the same.

    Attributes:
        path: Where it is, such as `newMessage.contents.0.text`.
        one: The first value; `None` if there is none.
        other: The second value; `None` if there is none.
    """

    path: str
    one: Any
    other: Any


def event_differences(one: RunEvent, other: RunEvent) -> tuple[Difference, ...]:
    """All values of two events that are not the same."""
    return () if one == other else tuple(differences(to_plain(one), to_plain(other)))


def to_plain(event: RunEvent) -> dict[str, Any]:
    """What an event says, as JSON has it."""
    if isinstance(event, StartRun):
        event = event.model_copy(
            update={"input_messages": tuple(map(_without_volatile, event.input_messages))}
        )
    document = event.model_dump(mode="json", by_alias=True, exclude_none=True)
    stamp: dict[str, Any] = document.pop("stamp")
    return _without_ignored_fields({**document, **stamp})


def _without_volatile(message: Any) -> Any:
    """An instruction without the time and the folder of the run."""
    if isinstance(message, InstructionMessage):
        return message.model_copy(update={"volatile": ""})
    return message


def _without_ignored_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in IGNORED_FIELDS}


def differences(one: Any, other: Any, path: str = "") -> Iterator[Difference]:
    """All values of two JSON documents that are not the same, in the order of the first."""
    if isinstance(one, dict) and isinstance(other, dict):
        first, second = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        for name in dict.fromkeys((*first, *second)):
            yield from differences(first.get(name), second.get(name), _join_path(path, name))
    elif isinstance(one, list) and isinstance(other, list):
        pairs = zip_longest(cast("list[Any]", one), cast("list[Any]", other))
        for position, (left, right) in enumerate(pairs):
            yield from differences(left, right, _join_path(path, str(position)))
    elif one != other:
        yield Difference(path=path, one=one, other=other)


def _join_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@dataclass(frozen=True, slots=True)
class StepPair:
    """Two steps at the same place of two runs; `None` for one that is not there.

    Attributes:
        position: Which step of the run it is, from 1.
        one: In the first job.
        other: In the second job.
        differences: What is not the same in them.
    """

    position: int
    one: StepTranscript | None
    other: StepTranscript | None
    differences: tuple[Difference, ...]

    @property
    def number(self) -> int:
        """The number of the step in the job; of the first if there are two."""
        step = self.one or self.other
        return step.number if step else 0


@dataclass(frozen=True, slots=True)
class RunPair:
    """Two runs that correspond to each other; `None` for one that is not there.

    Attributes:
        depth: How many delegations lie above it.
        one: In the first job.
        other: In the second job.
        differing_steps: The steps that are not the same, in order.
    """

    depth: int
    one: RunTranscript | None
    other: RunTranscript | None
    differing_steps: tuple[StepPair, ...]

    @property
    def expert_key(self) -> str:
        """Whose run it is, in the first job if there are two."""
        run = self.one or self.other
        return run.expert_key if run else ""


def align(one: Sequence[RunTranscript], other: Sequence[RunTranscript]) -> list[RunPair]:
    """All runs of two jobs, parents before their delegates."""
    return list(_iter_run_pairs(_match_runs(one, other), 0))


def align_runs(one: RunTranscript, other: RunTranscript) -> list[RunPair]:
    """Two runs and all below them, whosever they are."""
    return list(_iter_run_pairs([(one, other)], 0))


def first_divergence(pairs: Sequence[RunPair]) -> tuple[RunPair, StepPair] | None:
    """Where the jobs first part, if they do: at the step with the lowest number."""
    differing = [(run, run.differing_steps[0]) for run in pairs if run.differing_steps]
    return min(differing, key=lambda pair: pair[1].number) if differing else None


def _iter_run_pairs(
    pairs: Sequence[tuple[RunTranscript | None, RunTranscript | None]], depth: int
) -> Iterator[RunPair]:
    for one, other in pairs:
        yield RunPair(depth, one, other, tuple(_iter_differing_steps(one, other)))
        children = _match_runs(one.children if one else (), other.children if other else ())
        yield from _iter_run_pairs(children, depth + 1)


def _match_runs(
    one: Sequence[RunTranscript], other: Sequence[RunTranscript]
) -> list[tuple[RunTranscript | None, RunTranscript | None]]:
    """The nth run of an expert here with the nth of the same expert there."""
    experts = dict.fromkeys(run.expert_key for run in (*one, *other))
    return [
        pair
        for key in experts
        for pair in zip_longest(
            [run for run in one if run.expert_key == key],
            [run for run in other if run.expert_key == key],
        )
    ]


def _iter_differing_steps(
    one: RunTranscript | None, other: RunTranscript | None
) -> Iterator[StepPair]:
    steps = zip_longest(one.steps if one else (), other.steps if other else ())
    for position, (left, right) in enumerate(steps, start=1):
        changes = differences(left.content if left else {}, right.content if right else {})
        pair = StepPair(position, left, right, tuple(changes))
        if left is None or right is None or pair.differences:
            yield pair
