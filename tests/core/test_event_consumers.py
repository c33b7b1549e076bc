"""Every event type is placed by every consumer: handled, or ignored on purpose.

Most consumers end in `case _`, so nothing else would notice an event that they overlook. A new
event fails here until it has a row. A row names the consumers that handle the event; the others
ignore it on purpose.
"""

import ast
from pathlib import Path
from typing import get_args

import pytest

from perstack.core import events as ev
from perstack.core.machine import STOPS_FROM_ANYWHERE, TRANSITIONS

SRC = Path(__file__).parents[2] / "src" / "perstack"
EVENTS: dict[str, str] = {
    kind.__name__: kind.model_fields["type"].default for kind in get_args(get_args(ev.RunEvent)[0])
}
CONSUMERS: dict[str, tuple[str, ...]] = {
    "projection": ("store/projection.py",),
    "statistics": ("store/stats_query.py",),
    "usage": ("core/events.py#generation_usage",),
    "transcript": ("analysis/transcript.py",),
    "text": ("cli/render/events.py",),
    "tree": ("cli/job_tree.py",),
    "filter": ("cli/event_filter.py",),
    "progress": ("server/summaries.py",),
    "tasks": ("server/tasks/service.py", "server/tasks/model.py"),
    "spans": ("telemetry/run_span_recorder.py",),
    "activations": ("core/activations.py",),
    "replay": (
        "replay/recorded_ports.py",
        "replay/recorded_responses.py",
        "replay/recorded_tools.py",
        "replay/recording.py",
        "replay/runner.py",
        "replay/script_export.py",
    ),
}
"""Consumers and the files, or functions of files, in which they look at event types."""

HANDLED_BY = {
    "StartRun": "projection statistics transcript text tree progress spans replay",
    "ResumeFromStop": "projection statistics tree progress spans activations replay",
    "StartGeneration": "statistics progress replay",
    "Retry": "statistics usage transcript text filter progress spans replay",
    "CallTools": "statistics usage transcript text filter progress replay",
    "StartToolCalls": "statistics",
    "RecordToolResult": "statistics transcript text progress activations replay",
    "AttemptCompletion": "statistics transcript text",
    "StartVerification": "statistics usage transcript text replay",
    "RecordVerification": "transcript text progress replay",
    "FinishMcpTools": "",
    "CallDelegate": "transcript text tree filter progress replay",
    "SkipDelegates": "",
    "CallInteractiveTool": "text filter",
    "ProceedToInteractiveTools": "",
    "ResolveToolResults": "text filter",
    "FinishToolCall": "",
    "ResumeToolCalls": "",
    "CompactHistory": "statistics usage transcript text progress replay",
    "FinishAllToolCalls": "",
    "ContinueToNextStep": "spans replay",
    "CompleteRun": "projection statistics usage transcript text progress spans activations replay",
    "StopRunByInteractiveTool": "projection progress tasks spans activations",
    "StopRunByDelegate": "projection filter progress spans",
    "StopRunByExceededMaxSteps": "projection transcript progress spans activations replay",
    "StopRunByExceededBudget": (
        "projection usage transcript text progress spans activations replay"
    ),
    "StopRunByError": (
        "projection statistics usage transcript text filter progress tasks spans activations replay"
    ),
    "StopRunByCancellation": (
        "projection usage transcript text progress tasks spans activations replay"
    ),
}


def parsed(path: str) -> ast.AST:
    """A file, or with `#name` one function of it."""
    file, _, name = path.partition("#")
    tree = ast.parse((SRC / file).read_text(encoding="utf-8"))
    return next(
        node
        for node in ast.walk(tree)
        if not name or (isinstance(node, ast.FunctionDef) and node.name == name)
    )


def mentioned(paths: tuple[str, ...]) -> set[str]:
    """The event types whose class or wire name stands in the files, imports aside."""
    found: set[str] = set()
    types = {wire: name for name, wire in EVENTS.items()}
    for path in paths:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(types.get(node.value, ""))
    return found & EVENTS.keys()


def test_every_event_has_a_row() -> None:
    assert list(HANDLED_BY) == list(EVENTS)


def test_every_event_leads_from_a_state() -> None:
    legal = {event_type for targets in TRANSITIONS.values() for event_type in targets}

    assert legal | STOPS_FROM_ANYWHERE == set(EVENTS.values())


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_consumer_handles_what_its_rows_say(consumer: str) -> None:
    handled = {event for event, consumers in HANDLED_BY.items() if consumer in consumers.split()}

    assert mentioned(CONSUMERS[consumer]) == handled


def test_no_row_names_an_unknown_consumer() -> None:
    named = {consumer for consumers in HANDLED_BY.values() for consumer in consumers.split()}

    assert named <= CONSUMERS.keys()
