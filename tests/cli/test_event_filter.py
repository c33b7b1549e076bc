"""Which events are shown: windows over those that match, and their neighbours."""

import pytest

from perstack.cli.event_filter import EventFilter
from perstack.core.history import JobHistory, RecordedEvent
from tests.store.sample_job import RunStory


def entries() -> list[RecordedEvent]:
    """A run of two steps and an answer: 1 + 7 + 7 + 2 events."""
    run = RunStory()
    events = [run.start(), *run.step(), *run.step(), run.generate(), run.complete()]
    return JobHistory(events).recorded_events


def of_type(*types: str) -> EventFilter:
    return EventFilter(
        is_in_scope=lambda _: True, predicates=(lambda entry, _step: entry.event.type in types,)
    )


def picked(selection: EventFilter) -> list[str]:
    """The sequence numbers of what is shown; `+` marks neighbours."""
    return [
        f"{'+' if shown.is_context else ''}{shown.entry.event.stamp.sequence}"
        for entry in entries()
        for shown in selection.select(entry)
    ]


def test_only_what_matches_is_shown() -> None:
    selection = of_type("callTools", "completeRun")
    assert picked(selection) == ["3", "10", "17"]
    assert (selection.shown_count, selection.matched.events, selection.context_count) == (3, 3, 0)


def test_a_window_counts_what_matches() -> None:
    selection = of_type("callTools", "startGeneration")
    selection.offset, selection.take = 1, 2
    assert picked(selection) == ["3", "9"]
    assert (selection.shown_count, selection.matched.events) == (2, 5)


def test_neighbours_stand_on_both_sides_and_only_once() -> None:
    selection = of_type("startToolCalls", "resolveToolResults")
    selection.context = 1
    assert picked(selection) == [
        *("+3", "4", "+5", "6", "+7"),
        *("+10", "11", "+12", "13", "+14"),
    ]
    assert (selection.shown_count, selection.context_count) == (4, 6)


def test_what_is_beyond_the_window_may_be_a_neighbour() -> None:
    selection = of_type("callTools", "startToolCalls")
    selection.take, selection.context = 1, 2
    assert picked(selection) == ["+1", "+2", "3", "+4", "+5"]


def test_what_is_not_part_of_it_is_no_neighbour() -> None:
    selection = of_type("callTools")
    selection.is_in_scope = lambda entry: entry.event.stamp.sequence != 4
    selection.context = 1
    assert picked(selection) == ["+2", "3", "+5", "+9", "10", "+11"]


@pytest.mark.parametrize(
    ("take", "context", "at"), [(1, 0, 3), (1, 2, 5), (2, 0, 10), (0, 0, None)]
)
def test_it_is_full_once_nothing_more_will_be_shown(
    take: int, context: int, at: int | None
) -> None:
    selection = of_type("callTools")
    selection.take, selection.context = take, context
    full: list[int] = []
    for entry in entries():
        list(selection.select(entry))
        if selection.is_exhausted:
            full.append(entry.event.stamp.sequence)
    assert (full[0] if full else None) == at


def test_what_matches_adds_up() -> None:
    selection = of_type("callTools", "completeRun")
    selection.take = 1
    picked(selection)
    counts = selection.matched
    assert (counts.events, counts.tool_calls, counts.delegations, counts.errors) == (3, 2, 0, 0)
    assert counts.steps == (1, 3)
