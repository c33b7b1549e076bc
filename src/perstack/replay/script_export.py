"""A stored job as a script for the provider `scripted`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.events import parse_checkpoint_id
from perstack.core.history import RecordedEvent
from perstack.core.messages import ExpertMessage, UserMessage
from perstack.errors import ModelError
from perstack.llm.scripted.model import text_of
from perstack.llm.scripted.script import Script, ScriptedError, ScriptedReply, ScriptedToolCall
from perstack.llm.scripted.script_text import script_json, script_toml
from perstack.replay.recorded_responses import RecordedResponse, recorded_response
from perstack.runtime.ports import Generation


@dataclass(slots=True)
class _Conversation:
    """What an expert was asked first, and what it said to that and to all that followed."""

    expert_key: str
    query: str = ""
    replies: list[ScriptedReply] = field(default_factory=list[ScriptedReply])


def export_script(history: Sequence[RecordedEvent]) -> Script:
    """The replies of the newest conversation with the coordinator, and of all its delegates.

    Replies that were of no use and that the expert does not see in its conversation are left out.
    """
    events: dict[str, list[ev.RunEvent]] = {}
    newest: dict[str, Checkpoint] = {}
    for event, after in history:
        events.setdefault(after.run_id, []).append(event)
        newest[after.run_id] = after
    root = next(run_id for run_id in reversed(list(newest)) if newest[run_id].delegated_by is None)
    by_expert: dict[str, list[_Conversation]] = {}
    for run_id in _iter_run_tree(events, root):
        conversation = _build_conversation(
            newest[run_id].expert.key, list(_iter_conversation_events(events, run_id))
        )
        by_expert.setdefault(conversation.expert_key, []).append(conversation)
    return Script(
        experts={
            key: tuple(_expert_replies(conversations)) for key, conversations in by_expert.items()
        }
    )


def export_script_text(history: Sequence[RecordedEvent], *, is_json: bool) -> str:
    """`export_script` as the text of a file, in JSON or TOML.

    Raises:
        ConfigError: The script has a value that TOML cannot express.
    """
    script = export_script(history)
    return script_json(script) if is_json else script_toml(script)


def _iter_run_tree(events: Mapping[str, Sequence[ev.RunEvent]], run_id: str) -> Iterator[str]:
    """A run and all below it, those of the runs that it continues included."""
    yield run_id
    for event in _iter_conversation_events(events, run_id):
        if isinstance(event, ev.CallDelegate):
            for delegation in event.delegate_to:
                if delegation.run_id in events:
                    yield from _iter_run_tree(events, delegation.run_id)


def _iter_conversation_events(
    events: Mapping[str, Sequence[ev.RunEvent]], run_id: str
) -> Iterator[ev.RunEvent]:
    """The events that led to the end of a run, from the beginning of its conversation."""
    first = events[run_id][0]
    base = first.continued_from if isinstance(first, ev.StartRun | ev.ResumeFromStop) else None
    if base is not None:
        base_id, sequence = parse_checkpoint_id(base)
        base_events = _iter_conversation_events(events, base_id)
        yield from (
            event
            for event in base_events
            if event.stamp.run_id != base_id or event.stamp.sequence <= int(sequence)
        )
    yield from events[run_id]


def _build_conversation(expert_key: str, run_events: Sequence[ev.RunEvent]) -> _Conversation:
    conversation = _Conversation(expert_key)
    first = run_events[0]
    if isinstance(first, ev.StartRun):
        user_messages = (each for each in first.input_messages if isinstance(each, UserMessage))
        conversation.query = next((text_of(message) for message in user_messages), "")
    failures: list[ModelError] = []
    for event in run_events:
        reply = recorded_response(event)
        if isinstance(reply, ModelError):
            failures.append(reply)
        elif isinstance(reply, Generation) and _is_in_conversation(event):
            conversation.replies.append(_to_scripted_reply(reply, failures))
            failures = []
    if failures:
        conversation.replies.append(
            ScriptedReply(error=_to_scripted_error(failures[-1], times=None))
        )
    return conversation


def _is_in_conversation(event: ev.RunEvent) -> bool:
    """Whether the reply is a part of the conversation."""
    return not isinstance(event, ev.Retry) or any(
        isinstance(message, ExpertMessage) for message in event.new_messages
    )


def _to_scripted_reply(reply: Generation, failures: Sequence[RecordedResponse]) -> ScriptedReply:
    failed = [failure for failure in failures if isinstance(failure, ModelError)]
    is_plain = reply.finish_reason == ("toolCalls" if reply.tool_calls else "stop")
    return ScriptedReply(
        text=reply.text,
        thinking="".join(part.thinking for part in reply.thinking),
        tool_calls=tuple(
            ScriptedToolCall(name=call.tool_name, args=call.args) for call in reply.tool_calls
        ),
        finish_reason=None if is_plain else reply.finish_reason,
        usage=reply.usage,
        error=_to_scripted_error(failed[-1], times=len(failed)) if failed else None,
    )


def _to_scripted_error(failure: ModelError, times: int | None) -> ScriptedError:
    # Tests do not wait for the recorded delays.
    return ScriptedError(
        message=failure.message,
        status=failure.status,
        name=failure.name,
        retry_after_seconds=0 if failure.is_retryable else None,
        times=times,
    )


def _expert_replies(conversations: Sequence[_Conversation]) -> Iterator[ScriptedReply]:
    """The replies of an expert; by query where it had several conversations."""
    if len(conversations) == 1:
        yield from conversations[0].replies
        return
    by_query = {said.query: said for said in reversed(conversations)}
    for query, conversation in reversed(by_query.items()):
        for reply in conversation.replies:
            yield reply.model_copy(update={"query": query})
