"""Every event comes back from the store as it went in."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import BaseModel

from perstack.core import events as ev
from perstack.core.messages import (
    ExpertMessage,
    FileBinaryPart,
    ImageInlinePart,
    TextPart,
    ToolCallPart,
    Usage,
    UserMessage,
)
from perstack.errors import StoreError
from perstack.store.event_codec import (
    MAX_INLINE_CHARACTERS,
    EventRow,
    decode_row,
    decode_rows,
    encode_event,
)
from tests.store.records import ARGUMENTS, records
from tests.store.sample_job import RunStory

TYPES = [model for model in ev.StoredEvent.__subclasses__() if model.__module__ == ev.__name__]
NO_BLOBS: dict[str, bytes] = {}


def row_of(event: ev.RunEvent, body: str | None) -> EventRow:
    stamp = event.stamp
    return EventRow(
        job_id=stamp.job_id,
        run_id=stamp.run_id,
        expert_key=stamp.expert_key,
        step_number=stamp.step_number,
        sequence=stamp.sequence,
        timestamp=stamp.timestamp,
        type=event.type,
        body=None if body is None else body.encode("utf-8").decode("utf-8"),
    )


def through_the_store(event: ev.RunEvent) -> ev.RunEvent:
    content = encode_event(event)
    (back,) = decode_rows([row_of(event, content.body)], content.blobs.__getitem__)
    return back


@pytest.mark.parametrize("model", TYPES, ids=[model.__name__ for model in TYPES])
def test_an_event_of_any_type_survives(model: type[BaseModel]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(records(model))
    def survives(event: Any) -> None:
        assert through_the_store(event) == event

    survives()


def test_every_type_of_event_is_tried() -> None:
    assert len(TYPES) == 28


@given(ARGUMENTS)
@settings(deadline=None)
def test_arguments_are_kept_whatever_they_look_like(arguments: dict[str, Any]) -> None:
    call = ToolCallPart(tool_call_id="call", tool_name="t", args=arguments)
    event = ev.CallTools(
        stamp=RunStory().stamp(),
        new_message=ExpertMessage(contents=(call,)),
        targets=(),
        usage=Usage(),
    )

    assert through_the_store(event) == event


def test_long_parts_are_kept_beside_the_body() -> None:
    image = base64.b64encode(b"\x89PNG" * 10_000).decode()
    start = (
        RunStory()
        .start()
        .model_copy(
            update={
                "input_messages": (
                    UserMessage(
                        contents=(
                            TextPart(text="x" * (MAX_INLINE_CHARACTERS + 1)),
                            ImageInlinePart(encoded_data=image, mime_type="image/png"),
                            FileBinaryPart(data=image, mime_type="image/png"),
                            TextPart(text="short"),
                        )
                    ),
                )
            }
        )
    )

    content = encode_event(start)

    assert content.body is not None
    assert len(content.body) < 1000
    # The same image twice is one blob, and as bytes it is a quarter smaller than as base64.
    assert sorted(map(len, content.blobs.values())) == [MAX_INLINE_CHARACTERS + 1, 40_000]
    assert through_the_store(start) == start


def test_a_damaged_row_is_found_among_good_ones() -> None:
    run = RunStory()
    good = [row_of(event, encode_event(event).body) for event in (run.start(), run.generate())]
    bad = EventRow("job", "run", "researcher", 1, 3, 1, "completeRun", "{}")

    assert len(decode_rows(good, NO_BLOBS.__getitem__)) == 2
    with pytest.raises(StoreError, match="run-3 of job job"):
        decode_rows([*good, bad], NO_BLOBS.__getitem__)


def test_an_event_that_says_nothing_has_no_body() -> None:
    assert encode_event(RunStory().generate()).body is None


@pytest.mark.parametrize("body", ["{}", '{"text":1}', '{"text":', "[]"])
def test_a_damaged_row_is_named(body: str) -> None:
    row = EventRow("job", "run", "researcher", 1, 7, 1, "completeRun", body)

    with pytest.raises(StoreError, match=r"run-7 of job job \(completeRun\) cannot be read"):
        decode_row(row, NO_BLOBS.__getitem__)
