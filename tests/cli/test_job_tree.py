"""The tree of a job's runs: stretches, forks and what followed on what."""

import re
from collections.abc import Sequence

from perstack.cli.job_tree import tree_lines
from perstack.core import events as ev
from perstack.core.checkpoint import JobStatus
from perstack.core.history import JobHistory, RecordedEvent
from tests.cli.harness import Stage, calls, done, says
from tests.store.sample_job import RunStory


def drawn(events: Sequence[ev.RunEvent], status: JobStatus) -> list[str]:
    """The tree without tokens and ids."""
    entries = [
        RecordedEvent(event=event, checkpoint=after)
        for event, after in JobHistory(events).recorded_events
    ]
    return [bare(line) for line in tree_lines(entries, status)]


def bare(line: str) -> str:
    return re.sub(r"  (run \S+|[\d,]+ tokens \(.*?\)(, \$[\d.]+)?)", "", line)


def of_log(here: Stage) -> list[str]:
    """The tree of the latest job."""
    lines = here.logs().stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("●"))
    return [bare(line) for line in lines[first : lines.index("", first)]]


def test_each_stop_ends_a_stretch_and_the_next_one_is_resumed() -> None:
    run = RunStory()
    events = [run.start(), run.generate(), run.cancel(), run.resume()]
    assert drawn(events, "running") == [
        "● researcher  ✗ cancelled",
        "● researcher (resumed)  · working",
    ]


def test_what_had_no_end_was_interrupted() -> None:
    run = RunStory()
    events = [run.start(), run.generate()]
    assert drawn(events, "running") == ["● researcher  · working"]
    assert drawn(events, "interrupted") == ["● researcher  ✗ interrupted"]


def test_a_branch_says_so() -> None:
    run, branch = RunStory(), RunStory(run_id="branch")
    start = run.start()
    events = [start, run.generate(), run.complete(), branch.branch(start.id)]
    assert drawn(events, "running") == [
        "● researcher  ✓ completed",
        "● researcher (branch)  · working",
    ]


def test_delegates_branch_off_below_the_stretch_that_called_them(here: Stage) -> None:
    here.plays(
        a=[
            calls("x", "x", query="help"),
            calls("askUser"),
            calls("x", query="again"),
            says("all done"),
        ],
        a_x=[done("helped"), done("so"), done("more")],
    )
    here.runs("a", "q")
    here.runs("a", "blue", "-i", "--continue")
    here.runs("a", "And then?", "--continue")
    assert of_log(here) == [
        "● a  ⎇ delegating",
        "├─● @a/x  ✓ completed",
        "├─● @a/x  ✓ completed",
        "● a (resumed)  ? asked",
        "● a (resumed)  ⎇ delegating",
        "├─● @a/x  ✓ completed",
        "● a (resumed)  ✓ completed",
        "● a (continued)  ✗ failed",
    ]


def test_a_delegate_that_stops_the_job_ends_the_drawing() -> None:
    run = RunStory()
    child = run.delegate("child")
    delegation = ev.Delegation(
        expert=child.expert, tool_call_id="call-1", tool_name="reader", query="q", run_id="child"
    )
    waiting = delegation.model_copy(update={"run_id": "other", "tool_call_id": "call-2"})
    events = [run.start(), *run.step()[:2]]
    call = ev.CallDelegate(stamp=run.stamp(), delegate_to=(delegation, waiting))
    started = child.start(delegated_by=run.as_delegator())
    trail = JobHistory([*events, started, child.generate()])
    entries = [
        RecordedEvent(event=event, checkpoint=after) for event, after in trail.recorded_events
    ]
    entries.insert(3, RecordedEvent(event=call, checkpoint=entries[2].checkpoint))
    assert [bare(line) for line in tree_lines(entries, "interrupted")] == [
        "● researcher  ✗ interrupted",
        "├─● @researcher/reader  ✗ interrupted",
        "└─○ @researcher/reader  · not begun",
    ]
