"""Two jobs side by side: runs matched by expert and order, steps by their place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from perstack.core.comparison import Difference, differences
from perstack.core.tale import RunTale, StepTale


@dataclass(frozen=True, slots=True)
class StepPair:
    """Two steps at the same place of two runs; `None` for one that is not there.

    Attributes:
        place: Which step of the run it is, from 1.
        one: In the first job.
        other: In the second job.
        differences: What is not the same in them.
    """

    place: int
    one: StepTale | None
    other: StepTale | None
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
        parted: The steps that are not the same, in order.
    """

    depth: int
    one: RunTale | None
    other: RunTale | None
    parted: tuple[StepPair, ...]

    @property
    def expert_key(self) -> str:
        """Whose run it is, in the first job if there are two."""
        run = self.one or self.other
        return run.expert_key if run else ""


def align(one: Sequence[RunTale], other: Sequence[RunTale]) -> list[RunPair]:
    """All runs of two jobs, parents before their delegates."""
    return list(_aligned(_matched(one, other), 0))


def align_runs(one: RunTale, other: RunTale) -> list[RunPair]:
    """Two runs and all below them, whosever they are."""
    return list(_aligned([(one, other)], 0))


def first_parting(pairs: Sequence[RunPair]) -> tuple[RunPair, StepPair] | None:
    """Where the jobs first part, if they do: at the step with the lowest number."""
    parted = [(run, run.parted[0]) for run in pairs if run.parted]
    return min(parted, key=lambda pair: pair[1].number) if parted else None


def _aligned(
    matched: Sequence[tuple[RunTale | None, RunTale | None]], depth: int
) -> Iterator[RunPair]:
    for one, other in matched:
        yield RunPair(depth, one, other, tuple(_parted(one, other)))
        below = _matched(one.children if one else (), other.children if other else ())
        yield from _aligned(below, depth + 1)


def _matched(
    one: Sequence[RunTale], other: Sequence[RunTale]
) -> list[tuple[RunTale | None, RunTale | None]]:
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


def _parted(one: RunTale | None, other: RunTale | None) -> Iterator[StepPair]:
    steps = zip_longest(one.steps if one else (), other.steps if other else ())
    for place, (left, right) in enumerate(steps, start=1):
        found = differences(left.content if left else {}, right.content if right else {})
        pair = StepPair(place, left, right, tuple(found))
        if left is None or right is None or pair.differences:
            yield pair
