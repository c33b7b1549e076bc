"""The event stream grows with what is said, and its events add up to the conversation."""

import json
from dataclasses import replace
from typing import Any

import pytest

from perstack.core.checkpoint import Checkpoint
from perstack.core.transient_events import PerstackEvent, TransientEvent
from perstack.core.wire import to_wire
from tests.fakes import FakeModel, call, calls, experts, job_context, says
from tests.runtime.acting import work

pytestmark = pytest.mark.anyio

Json = dict[str, Any]


async def stream_of(steps: int) -> list[Json]:
    """The run events of an expert that calls a tool in each of its steps, then answers."""
    documents: list[Json] = []

    def heard(event: PerstackEvent, checkpoint: Checkpoint | None) -> None:
        if not isinstance(event, TransientEvent):
            documents.append(to_wire(event, checkpoint))

    replies = [calls(call("echo", f"c{step}", text="x" * 500)) for step in range(steps)]
    context = job_context(experts(a=()), FakeModel({"a": [*replies, says("the end")]}))
    await work(replace(context, listener=heard))
    return documents


async def test_twice_the_steps_make_twice_the_stream() -> None:
    short, long = len(json.dumps(await stream_of(20))), len(json.dumps(await stream_of(40)))
    assert long < 2.1 * short


async def test_the_messages_of_the_events_add_up_to_those_of_the_last_checkpoint() -> None:
    *events, end = await stream_of(3)
    told: list[Json] = []
    for event in events:
        told += event.get("inputMessages", [])
        told += [event["newMessage"]] if "newMessage" in event else []
        told += event.get("newMessages", [])
    *earlier, answer = end["checkpoint"]["messages"]
    assert told == earlier
    assert answer["contents"][0]["text"] == end["text"] == "the end"
