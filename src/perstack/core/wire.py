"""Events as others read them: the JSON of the event stream.

Stored events hold each fact once. On the wire an event also says what follows from it, so that a
reader needs no state of its own: the calls with their skills, the results, and at the end of a run
or whenever it stops the whole checkpoint and the step. `docs/events.md` lists every type.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, assert_never, get_args

from perstack.core import events as ev
from perstack.core import transient_events
from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import (
    InstructionMessage,
    Message,
    TextPart,
    ToolCall,
    ToolResult,
    ToolResultPart,
)
from perstack.core.step import Step
from perstack.models import FrozenModel

JsonObject = dict[str, Any]

DELEGATE_SKILL_PREFIX = "delegate/"
"""Before the key of an expert that is called: what stands for a skill of such a call."""


def _type_names(union: Any) -> tuple[str, ...]:
    """The `type` of each member of a discriminated union."""
    return tuple(member.model_fields["type"].default for member in get_args(get_args(union)[0]))


RUN_TYPES = _type_names(ev.RunEvent)
STREAMING_TYPES = _type_names(transient_events.StreamingEvent)
RUNTIME_TYPES = _type_names(transient_events.RuntimeEvent)
EVENT_TYPES = (*RUN_TYPES, *STREAMING_TYPES, *RUNTIME_TYPES)
"""Every type that a stream can have."""


def to_wire(
    event: transient_events.PerstackEvent, checkpoint: Checkpoint | None, step: Step | None = None
) -> JsonObject:
    """The JSON form of an event.

    Args:
        event: Any event.
        checkpoint: The one that a stored event led to; not needed for an event that is not stored.
        step: Its step up to here, where events tell it; without it, they do not.

    Raises:
        ValueError: A stored event came without its checkpoint.
    """
    if isinstance(event, transient_events.TransientEvent):
        return {**_header(event, is_of_run=event.type in STREAMING_TYPES), **_fields(event)}
    if checkpoint is None:
        raise ValueError(f"{event.type} needs the checkpoint that it led to")
    document = {**_header(event, is_of_run=True), **_payload(event, checkpoint)}
    if step is not None:
        document |= _step_fields(event, checkpoint, step)
    return document


def _step_fields(event: ev.RunEvent, after: Checkpoint, step: Step) -> JsonObject:
    """What follows from all events of a step."""
    match event:
        case ev.CallDelegate() | ev.CallInteractiveTool():
            return {"usage": _dump(step.usage)}
        case ev.CompleteRun():
            # A call that completes a run was generated in its step, before the run ends.
            usage = event.usage if event.usage.total_tokens else step.usage
            return {"step": step_to_wire(event, after, step), "usage": _dump(usage)}
        case _ if after.is_final:
            return {"step": step_to_wire(event, after, step)}
        case _:
            return {}


def step_to_wire(event: ev.RunEvent, after: Checkpoint, step: Step) -> JsonObject:
    """The JSON form of a step that ends with `event`, for good or until the run is resumed."""
    first = step.first_message
    new_messages = after.messages[first : step.end_message]
    is_open = bool(after.tool_calls)
    results = _results(step.tool_results, step.tool_calls)
    document: JsonObject = {
        "stepNumber": step.number,
        "newMessages": _messages(after.run_id, new_messages, first),
        "toolCalls": _calls(step.tool_calls),
        "toolResults": [] if is_open else results,
        "pendingToolCalls": _calls(after.pending_tool_calls),
        "partialToolResults": results if is_open else [],
        "usage": _dump(step.usage),
        "startedAt": step.started_at,
        "finishedAt": event.stamp.timestamp,
    }
    return {name: value for name, value in document.items() if value != [] or name == "newMessages"}


def checkpoint_to_wire(checkpoint: Checkpoint) -> JsonObject:
    """The JSON form of a checkpoint; what is empty is left out."""
    document: JsonObject = {
        "id": checkpoint.id,
        "jobId": checkpoint.job_id,
        "runId": checkpoint.run_id,
        "status": checkpoint.status,
        "stepNumber": checkpoint.step_number,
        "messages": conversation_to_wire(checkpoint),
        "expert": _dump(checkpoint.expert),
        "usage": _dump(checkpoint.usage),
        "pendingToolCalls": _calls(checkpoint.pending_tool_calls),
        "partialToolResults": _results(checkpoint.tool_results, checkpoint.tool_calls),
        "delegateTo": [_dump(delegation) for delegation in checkpoint.delegate_to],
        "delegatedBy": _dump_optional(checkpoint.delegated_by),
        "contextWindow": checkpoint.context_window,
        "contextWindowUsage": checkpoint.context_window_usage,
        "verifications": [_dump(each) for each in checkpoint.verifications],
        "error": _dump_optional(checkpoint.error),
        "limits": _dump_optional(checkpoint.limits),
        "exhaustedBudget": _dump_optional(checkpoint.exhausted),
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


def conversation_to_wire(checkpoint: Checkpoint) -> list[JsonObject]:
    """The JSON form of all that was said in a run."""
    return _messages(checkpoint.run_id, checkpoint.messages, 0)


def _header(event: transient_events.PerstackEvent, *, is_of_run: bool) -> JsonObject:
    stamp = event.stamp
    header: JsonObject = {
        "type": event.type,
        "id": event.id,
        "timestamp": stamp.timestamp,
        "jobId": stamp.job_id,
        "runId": stamp.run_id,
    }
    if is_of_run:
        header |= {"expertKey": stamp.expert_key, "stepNumber": stamp.step_number}
    if isinstance(event, ev.StoredEvent) and event.activation_id is not None:
        header["activationId"] = event.activation_id
    return header


def _payload(event: ev.RunEvent, after: Checkpoint) -> JsonObject:  # noqa: C901, PLR0911, PLR0912 - one flat case per event is the readable form of an exhaustive match
    match event:
        case ev.StartRun():
            return _start_run(event, after)
        case ev.ResumeFromStop():
            return {"checkpoint": checkpoint_to_wire(after)}
        case ev.StartGeneration() | ev.SkipDelegates():
            return {}
        case ev.Retry():
            count = len(event.new_messages)
            return {**_fields(event, "new_messages"), "newMessages": _last_messages(after, count)}
        case ev.CallTools():
            return {
                "newMessage": _last_messages(after, 1)[0],
                "toolCalls": _calls(after.tool_calls),
                "usage": _dump(event.usage),
            }
        case ev.StartToolCalls():
            return {"toolCalls": _calls_with_ids(after, event.tool_call_ids)}
        case ev.RecordToolResult() | ev.AttemptCompletion():
            result = _results((event.tool_result,), after.tool_calls)[0]
            return {**_fields(event, "tool_result"), "toolResult": result}
        case ev.StartVerification():
            return _start_verification(event, after)
        case ev.FinishMcpTools():
            return {"newToolResults": _results(_skill_results(after), after.tool_calls)}
        case ev.CallDelegate():
            delegated = {delegation.tool_call_id for delegation in event.delegate_to}
            calls = _calls_with_ids(after, delegated)
            return {"newMessage": _last_messages(after, 1)[0], "toolCalls": calls, **_fields(event)}
        case ev.CallInteractiveTool():
            asked = _calls_with_ids(after, (event.tool_call_id,))[0]
            return {"newMessage": _last_messages(after, 1)[0], "toolCall": asked}
        case ev.ProceedToInteractiveTools() | ev.ResumeToolCalls():
            return {
                "pendingToolCalls": _calls(after.pending_tool_calls),
                "partialToolResults": _results(after.tool_results, after.tool_calls),
            }
        case ev.ResolveToolResults():
            return {"toolResults": _results(after.tool_results, after.tool_calls)}
        case ev.FinishToolCall():
            return {"newMessages": _last_messages(after, 1)}
        case ev.FinishAllToolCalls():
            return {"newMessages": []}
        case ev.ContinueToNextStep() | ev.RecordVerification() | ev.CompactHistory():
            return _fields(event)
        case ev.CompleteRun():
            return _complete_run(event, after)
        case (
            ev.StopRunByInteractiveTool()
            | ev.StopRunByDelegate()
            | ev.StopRunByExceededMaxSteps()
            | ev.StopRunByExceededBudget()
            | ev.StopRunByError()
            | ev.StopRunByCancellation()
        ):
            return {"checkpoint": checkpoint_to_wire(after), **_fields(event)}
        case _:
            assert_never(event)


def _complete_run(event: ev.CompleteRun, after: Checkpoint) -> JsonObject:
    return {
        "checkpoint": checkpoint_to_wire(after),
        "text": event.text,
        **({"output": after.output} if event.is_typed else {}),
        "usage": _dump(event.usage),
    }


def _start_verification(event: ev.StartVerification, after: Checkpoint) -> JsonObject:
    if event.new_message is None:
        return {}
    return {"newMessage": _last_messages(after, 1)[0], "usage": _dump(event.usage)}


def _skill_results(after: Checkpoint) -> Iterable[ToolResult]:
    skill_call_ids = {call.id for call in after.tool_calls if call.kind == "mcp"}
    return (result for result in after.tool_results if result.id in skill_call_ids)


def _start_run(event: ev.StartRun, after: Checkpoint) -> JsonObject:
    count = len(event.input_messages)
    earlier = after.messages[: len(after.messages) - count]
    initial = after.model_copy(update={"status": "init", "messages": earlier})
    return {
        "initialCheckpoint": checkpoint_to_wire(initial),
        "inputMessages": _last_messages(after, count),
        **_new_instruction(event, after),
        "model": event.model,
        "stepLimit": event.step_limit,
        **({} if event.limits is None else {"limits": _dump(event.limits)}),
    }


def _new_instruction(event: ev.StartRun, after: Checkpoint) -> JsonObject:
    if event.new_instruction is None:
        return {}
    return {"newInstruction": _messages(after.run_id, after.messages[:1], 0)[0]}


def _fields(event: FrozenModel, *excluded: str) -> JsonObject:
    """What the event itself holds, without its stamp; what is not set is left out."""
    dump = event.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude={"stamp", "type", "ordinal", "activation_id", *excluded},
    )
    # A list of todos is one field in memory, to be one value; outside it is simply a list.
    return {**dump, "todos": dump["todos"]["todos"]} if "todos" in dump else dump


def _dump(record: FrozenModel) -> JsonObject:
    return record.model_dump(mode="json", by_alias=True, exclude_none=True)


def _dump_optional(record: FrozenModel | None) -> JsonObject | None:
    return None if record is None else _dump(record)


def _calls(calls: Iterable[ToolCall]) -> list[JsonObject]:
    return [
        {
            **call.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"kind"}),
            "skillName": _skill_name(call.skill_name, is_delegate=call.kind == "delegate"),
        }
        for call in calls
    ]


def _skill_name(name: str, *, is_delegate: bool) -> str:
    if not is_delegate or name.startswith(DELEGATE_SKILL_PREFIX):
        return name
    return f"{DELEGATE_SKILL_PREFIX}{name}"


def _calls_with_ids(after: Checkpoint, call_ids: Collection[str]) -> list[JsonObject]:
    return _calls(call for call in after.tool_calls if call.id in call_ids)


def _results(results: Iterable[ToolResult], calls: Sequence[ToolCall]) -> list[JsonObject]:
    """Results of `calls` in their order; the calls know the kinds of their tools."""
    delegate_call_ids = {call.id for call in calls if call.kind == "delegate"}
    places = {call.id: place for place, call in enumerate(calls)}
    return [
        {
            **_dump(result),
            "skillName": _skill_name(result.skill_name, is_delegate=result.id in delegate_call_ids),
            "result": _parts(result.id, result.result),
        }
        for result in sorted(results, key=lambda each: places.get(each.id, len(places)))
    ]


def _last_messages(after: Checkpoint, count: int) -> list[JsonObject]:
    first = len(after.messages) - count
    return _messages(after.run_id, after.messages[first:], first)


def _messages(run_id: str, messages: Sequence[Message], first: int) -> list[JsonObject]:
    """Messages with ids made of their place in the run's conversation, which never changes."""
    return [
        _message(f"{run_id}-m{position}", message)
        for position, message in enumerate(messages, start=first)
    ]


def _message(message_id: str, message: Message) -> JsonObject:
    if isinstance(message, InstructionMessage):
        texts = (message.stable, message.volatile)
        parts: Sequence[FrozenModel] = [TextPart(text=text) for text in texts if text]
    else:
        parts = message.contents
    return {"type": message.type, "id": message_id, "contents": _parts(message_id, parts)}


def _parts(owner_id: str, parts: Iterable[FrozenModel]) -> list[JsonObject]:
    documents: list[JsonObject] = []
    for position, part in enumerate(parts):
        part_id = f"{owner_id}-p{position}"
        document = {"id": part_id, **_dump(part)}
        if isinstance(part, ToolResultPart):
            document["contents"] = _parts(part_id, part.contents)
        documents.append(document)
    return documents
