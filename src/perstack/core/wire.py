"""Events as others read them: the JSON of the event stream.

Stored events hold each fact once. On the wire an event also says what follows from it, so that a
reader needs no state of its own: the calls with their skills, the results, and at the end of a run
or whenever it stops the whole checkpoint. `docs/events.md` lists every type.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, assert_never, get_args

from perstack.core import events as ev
from perstack.core import passing
from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import (
    InstructionMessage,
    Message,
    TextPart,
    ToolCall,
    ToolResult,
    ToolResultPart,
)
from perstack.definition.record import Record

Json = dict[str, Any]


def _types(union: Any) -> tuple[str, ...]:
    """The `type` of each member of a discriminated union."""
    return tuple(member.model_fields["type"].default for member in get_args(get_args(union)[0]))


RUN_TYPES = _types(ev.RunEvent)
STREAMING_TYPES = _types(passing.StreamingEvent)
RUNTIME_TYPES = _types(passing.RuntimeEvent)
EVENT_TYPES = (*RUN_TYPES, *STREAMING_TYPES, *RUNTIME_TYPES)
"""Every type that a stream can have."""


def to_wire(event: passing.PerstackEvent, checkpoint: Checkpoint | None) -> Json:
    """The JSON form of an event.

    Args:
        event: Any event.
        checkpoint: The one that a stored event led to; not needed for an event that is not stored.

    Raises:
        ValueError: A stored event came without its checkpoint.
    """
    if isinstance(event, passing.PassingEvent):
        return {**_stamp(event, is_of_run=event.type in STREAMING_TYPES), **_fields(event)}
    if checkpoint is None:
        raise ValueError(f"{event.type} needs the checkpoint that it led to")
    return {**_stamp(event, is_of_run=True), **_payload(event, checkpoint)}


def checkpoint_to_wire(checkpoint: Checkpoint) -> Json:
    """The JSON form of a checkpoint; what is empty is left out."""
    document: Json = {
        "id": checkpoint.id,
        "jobId": checkpoint.job_id,
        "runId": checkpoint.run_id,
        "status": checkpoint.status,
        "stepNumber": checkpoint.step_number,
        "messages": _messages(checkpoint.run_id, checkpoint.messages, 0),
        "expert": _plain(checkpoint.expert),
        "usage": _plain(checkpoint.usage),
        "pendingToolCalls": _calls(checkpoint.pending_tool_calls),
        "partialToolResults": _results(checkpoint.tool_results),
        "delegateTo": [_plain(delegation) for delegation in checkpoint.delegate_to],
        "delegatedBy": _optional(checkpoint.delegated_by),
        "contextWindow": checkpoint.context_window,
        "contextWindowUsage": checkpoint.context_window_usage,
        "verifications": [_plain(each) for each in checkpoint.verifications],
        "error": _optional(checkpoint.error),
        "retryCount": checkpoint.retry_count or None,
        "parentCheckpointId": checkpoint.parent_id,
        "provider": checkpoint.provider or None,
        "model": checkpoint.model or None,
    }
    mandatory = {"messages"}
    return {
        name: value
        for name, value in document.items()
        if name in mandatory or value not in (None, [])
    }


def _stamp(event: passing.PerstackEvent, *, is_of_run: bool) -> Json:
    stamp = event.stamp
    head: Json = {
        "type": event.type,
        "id": event.id,
        "timestamp": stamp.timestamp,
        "jobId": stamp.job_id,
        "runId": stamp.run_id,
    }
    if is_of_run:
        head |= {"expertKey": stamp.expert_key, "stepNumber": stamp.step_number}
    return head


def _payload(event: ev.RunEvent, after: Checkpoint) -> Json:  # noqa: C901, PLR0911, PLR0912 - one flat case per event is the readable form of an exhaustive match
    match event:
        case ev.StartRun():
            return _start(event, after)
        case ev.ResumeFromStop():
            return {"checkpoint": checkpoint_to_wire(after)}
        case ev.StartGeneration() | ev.SkipDelegates():
            return {}
        case ev.Retry():
            count = len(event.new_messages)
            return {**_fields(event, "new_messages"), "newMessages": _last(after, count)}
        case ev.CallTools():
            return {
                "newMessage": _last(after, 1)[0],
                "toolCalls": _calls(after.tool_calls),
                "usage": _plain(event.usage),
            }
        case ev.StartToolCalls():
            return {"toolCalls": _calls_of(after, event.tool_call_ids)}
        case ev.RecordToolResult() | ev.AttemptCompletion():
            return {**_fields(event, "tool_result"), "toolResult": _result(event.tool_result)}
        case ev.StartVerification():
            return _proposed(event, after)
        case ev.FinishMcpTools():
            return {"newToolResults": _results(_of_skills(after))}
        case ev.CallDelegate():
            delegated = {delegation.tool_call_id for delegation in event.delegate_to}
            return {"toolCalls": _calls_of(after, delegated), **_fields(event)}
        case ev.CallInteractiveTool():
            return {"toolCall": _calls_of(after, (event.tool_call_id,))[0]}
        case ev.ProceedToInteractiveTools() | ev.ResumeToolCalls():
            return {
                "pendingToolCalls": _calls(after.pending_tool_calls),
                "partialToolResults": _results(after.tool_results),
            }
        case ev.ResolveToolResults():
            return {"toolResults": _results(after.tool_results)}
        case ev.FinishToolCall():
            return {"newMessages": _last(after, 1)}
        case ev.FinishAllToolCalls():
            return {"newMessages": []}
        case ev.ContinueToNextStep() | ev.RecordVerification():
            return _fields(event)
        case ev.CompleteRun():
            return {
                "checkpoint": checkpoint_to_wire(after),
                "text": event.text,
                **({"output": after.output} if event.is_typed else {}),
                "usage": _plain(event.usage),
            }
        case (
            ev.StopRunByInteractiveTool()
            | ev.StopRunByDelegate()
            | ev.StopRunByExceededMaxSteps()
            | ev.StopRunByError()
            | ev.StopRunByCancellation()
        ):
            return {"checkpoint": checkpoint_to_wire(after), **_fields(event)}
        case _:
            assert_never(event)


def _proposed(event: ev.StartVerification, after: Checkpoint) -> Json:
    if event.new_message is None:
        return {}
    return {"newMessage": _last(after, 1)[0], "usage": _plain(event.usage)}


def _of_skills(after: Checkpoint) -> Iterable[ToolResult]:
    of_skills = {call.id for call in after.tool_calls if call.kind == "mcp"}
    return (result for result in after.tool_results if result.id in of_skills)


def _start(event: ev.StartRun, after: Checkpoint) -> Json:
    count = len(event.input_messages)
    earlier = after.messages[: len(after.messages) - count]
    initial = after.model_copy(update={"status": "init", "messages": earlier})
    return {
        "initialCheckpoint": checkpoint_to_wire(initial),
        "inputMessages": _last(after, count),
        **_instruction(event, after),
        "model": event.model,
        "stepLimit": event.step_limit,
    }


def _instruction(event: ev.StartRun, after: Checkpoint) -> Json:
    if event.new_instruction is None:
        return {}
    return {"newInstruction": _messages(after.run_id, after.messages[:1], 0)[0]}


def _fields(event: Record, *left_out: str) -> Json:
    """What the event itself holds, without its stamp; what is not set is left out."""
    dump = event.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude={"stamp", "type", "ordinal", *left_out},
    )
    # A list of todos is one field in memory, to be one value; outside it is simply a list.
    return {**dump, "todos": dump["todos"]["todos"]} if "todos" in dump else dump


def _plain(record: Record) -> Json:
    return record.model_dump(mode="json", by_alias=True, exclude_none=True)


def _optional(record: Record | None) -> Json | None:
    return None if record is None else _plain(record)


def _calls(calls: Iterable[ToolCall]) -> list[Json]:
    return [
        call.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"kind"})
        for call in calls
    ]


def _calls_of(after: Checkpoint, call_ids: Collection[str]) -> list[Json]:
    return _calls(call for call in after.tool_calls if call.id in call_ids)


def _results(results: Iterable[ToolResult]) -> list[Json]:
    return [_result(result) for result in results]


def _result(result: ToolResult) -> Json:
    return {**_plain(result), "result": _parts(result.id, result.result)}


def _last(after: Checkpoint, count: int) -> list[Json]:
    first = len(after.messages) - count
    return _messages(after.run_id, after.messages[first:], first)


def _messages(run_id: str, messages: Sequence[Message], first: int) -> list[Json]:
    """Messages with ids made of their place in the run's conversation, which never changes."""
    return [
        _message(f"{run_id}-m{position}", message)
        for position, message in enumerate(messages, start=first)
    ]


def _message(message_id: str, message: Message) -> Json:
    if isinstance(message, InstructionMessage):
        texts = (message.stable, message.volatile)
        parts: Sequence[Record] = [TextPart(text=text) for text in texts if text]
    else:
        parts = message.contents
    return {"type": message.type, "id": message_id, "contents": _parts(message_id, parts)}


def _parts(owner_id: str, parts: Iterable[Record]) -> list[Json]:
    documents: list[Json] = []
    for position, part in enumerate(parts):
        part_id = f"{owner_id}-p{position}"
        document = {"id": part_id, **_plain(part)}
        if isinstance(part, ToolResultPart):
            document["contents"] = _parts(part_id, part.contents)
        documents.append(document)
    return documents
