"""The proof that readers of perstack elsewhere find what they rely on, and that it can fail."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROOFS = ROOT / "scripts" / "proofs"
CHECKPOINT: dict[str, Any] = {
    "id": "r-1",
    "jobId": "j",
    "runId": "r",
    "status": "completed",
    "stepNumber": 1,
    "messages": [{"id": "m", "type": "userMessage", "contents": []}],
    "expert": {"key": "a", "name": "a", "version": "1.0.0"},
    "usage": dict.fromkeys(
        ("inputTokens", "outputTokens", "reasoningTokens", "totalTokens", "cachedInputTokens"), 0
    ),
}
START: dict[str, Any] = {
    "type": "startRun",
    "id": "r-1",
    "timestamp": 1,
    "jobId": "j",
    "runId": "r",
    "expertKey": "a",
    "stepNumber": 1,
    "initialCheckpoint": CHECKPOINT,
    "inputMessages": [],
}


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    spec = spec_from_file_location("upstream_shapes", PROOFS / "_upstream_shapes.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_readers_of_perstack_elsewhere_find_what_they_rely_on() -> None:
    done = subprocess.run(
        [sys.executable, str(PROOFS / "upstream.py")],
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr


CHANGES: list[tuple[dict[str, Any], str | None]] = [
    ({"inputMessages": None}, None),
    ({"type": "beginRun"}, "beginRun is no type of event"),
    ({"initialCheckpoint": {**CHECKPOINT, "status": "finished"}}, "finished is no status"),
    ({"initialCheckpoint": {"id": "r-1"}}, "initialCheckpoint lacks expert, jobId, messages"),
    ({"inputMessages": [{"id": "m", "type": "note", "contents": []}]}, "note is no type"),
    ({"toolCalls": [{"id": "c"}]}, "toolCalls lacks args, skillName, toolName"),
]


@pytest.mark.parametrize(("change", "problem"), CHANGES)
def test_what_a_reader_would_miss_is_found(
    shapes: ModuleType, change: dict[str, Any], problem: str | None
) -> None:
    problems = list(shapes.event_problems([{**START, **change}], frozenset()))
    assert [problem in each for each in problems] == ([] if problem is None else [True])


def test_a_missing_field_of_an_event_is_found(shapes: ModuleType) -> None:
    event = {
        name: value for name, value in START.items() if name not in ("timestamp", "stepNumber")
    }
    assert list(shapes.event_problems([event], frozenset())) == [
        "startRun lacks stepNumber, timestamp"
    ]


def test_an_order_that_no_run_has_is_found(shapes: ModuleType) -> None:
    events = [{**START, "type": kind} for kind in ("startRun", "startGeneration", "finishToolCall")]
    assert list(shapes.order_problems(events)) == ["finishToolCall comes after startGeneration"]
    assert list(shapes.order_problems(events[1:2])) == ["startGeneration comes after nothing"]


def test_additions_are_those_that_the_document_names(shapes: ModuleType) -> None:
    added = shapes.additions(ROOT / "docs")
    assert {"startToolCalls", "recordToolResult", "stopRunByCancellation"} <= added
    assert not added & shapes.RUN_EVENTS.keys()
