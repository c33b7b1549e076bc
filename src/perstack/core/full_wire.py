"""Events in the full shape that other readers of perstack expect: nothing is left to add up.

Each generation repeats the conversation and each step its checkpoints, so a stream of this shape
grows with the square of what is said. It is made from the same events, for whoever asks for it.
`docs/upstream.md` lists what differs nevertheless.
"""

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.step import Step
from perstack.core.transient_events import PerstackEvent
from perstack.core.wire import (
    JsonObject,
    checkpoint_to_wire,
    conversation_to_wire,
    step_to_wire,
    to_wire,
)


def full_type(event: PerstackEvent, step: Step | None) -> str:
    """The type of an event in the full shape.

    The message of results that a run takes up after a stop is told apart from that of other steps.
    """
    is_resumed = step is not None and step.is_resumed
    return "finishAllToolCalls" if event.type == "finishToolCall" and is_resumed else event.type


def to_full_wire(
    event: PerstackEvent, checkpoint: Checkpoint | None, step: Step | None
) -> JsonObject:
    """The full JSON form of an event.

    Args:
        event: Any event.
        checkpoint: The one that a stored event led to; not needed for an event that is not stored.
        step: Its step up to here, where events of this shape tell it.

    Raises:
        ValueError: A stored event came without its checkpoint.
    """
    document = to_wire(event, checkpoint, step)
    if checkpoint is None:
        return document
    match event:
        case ev.StartGeneration():
            return {**document, "messages": conversation_to_wire(checkpoint)}
        case ev.ContinueToNextStep() if step is not None:
            return {**document, **_end_of_step(event, checkpoint, step)}
        case _:
            return {**document, "type": full_type(event, step)}


def _end_of_step(event: ev.ContinueToNextStep, after: Checkpoint, step: Step) -> JsonObject:
    before = after.model_copy(
        update={
            "id": f"{after.run_id}-{after.sequence - 1}",
            "step_number": step.number,
            "messages": after.messages[: step.end_message],
        }
    )
    first = step.first_message
    inputs = conversation_to_wire(after)[first - step.input_count : first]
    return {
        "checkpoint": checkpoint_to_wire(before),
        "step": {
            **step_to_wire(event, after, step),
            **({"inputMessages": inputs} if inputs else {}),
        },
        "nextCheckpoint": checkpoint_to_wire(after),
    }
