"""The ids of calls, as a conversation grows, is compacted and is replaced."""

from perstack.core.messages import ExpertMessage, TextPart, ToolCallPart, UserMessage
from perstack.runtime.call_ids import CallIds


def reply(*ids: str) -> ExpertMessage:
    calls = (ToolCallPart(tool_call_id=each, tool_name="echo", args={}) for each in ids)
    return ExpertMessage(contents=tuple(calls))


QUERY = UserMessage(contents=(TextPart(text="Do it."),))


def test_ids_are_added_as_the_conversation_grows() -> None:
    call_ids = CallIds()
    first = (QUERY, reply("a", "b"))
    assert set(call_ids.of(first)) == {"a", "b"}
    assert set(call_ids.of((*first, QUERY, reply("c")))) == {"a", "b", "c"}


def test_ids_of_messages_that_are_gone_are_forgotten() -> None:
    call_ids = CallIds()
    call_ids.of((QUERY, reply("a"), reply("b"), reply("c")))
    assert set(call_ids.of((QUERY, reply("c")))) == {"c"}
    assert set(call_ids.of((QUERY, reply("x"), reply("y")))) == {"x", "y"}
