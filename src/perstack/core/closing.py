"""How the results of calls become a message of the conversation, also where some are missing."""

from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import (
    ExpertMessage,
    Message,
    ToolMessage,
    ToolResult,
    ToolResultPart,
    text_result,
)


def tool_message(messages: tuple[Message, ...], results: tuple[ToolResult, ...]) -> ToolMessage:
    """The results as one message, in the order of the calls of the last expert message."""
    by_id = {result.id: result for result in results}
    last = messages[-1]
    calls = last.tool_calls if isinstance(last, ExpertMessage) else ()
    return ToolMessage(
        contents=tuple(
            ToolResultPart(
                tool_call_id=call.tool_call_id,
                tool_name=call.tool_name,
                contents=by_id[call.tool_call_id].result,
                is_error=by_id[call.tool_call_id].is_error,
            )
            for call in calls
        )
    )


def close_open_calls(checkpoint: Checkpoint) -> tuple[Message, ...]:
    """The conversation of a stopped run, made fit for a new message: open calls get an answer."""
    if not checkpoint.tool_calls:
        return checkpoint.messages
    unfinished = tuple(
        text_result(
            call,
            "The run was stopped before this call finished; its effect is unknown.",
            is_error=True,
        )
        for call in checkpoint.pending_tool_calls
    )
    closing = tool_message(checkpoint.messages, checkpoint.tool_results + unfinished)
    return (*checkpoint.messages, closing)
