"""Finds an expert that makes the same call again and again and always gets the same result."""

from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import (
    ExpertMessage,
    Message,
    ToolCall,
    ToolMessage,
    ToolResultPart,
)

REFUSED_REPETITION = "This call was not made again"
"""How the result of a refused repetition begins."""

REPEATED_CALL = "RepeatedCallError"
"""The name of the error of a run that repeats a refused call again and again."""


def refusal_of_repetition(checkpoint: Checkpoint, call: ToolCall, limit: int) -> str | None:
    """Why a call is not made: the same one had the same result `limit` times in a row.

    A limit of 0 allows any number, and questions to the user may be repeated.
    """
    if call.kind == "interactive":
        return None
    made, _ = _count_repetitions(checkpoint.messages[:-1], call)
    if not limit or made < limit:
        return None
    return (
        f"{REFUSED_REPETITION}: {call.tool_name} was called {made} times in a row with these "
        "arguments, always with the same result. Do something else, or finish and say what is "
        "missing."
    )


def stuck_call(checkpoint: Checkpoint, limit: int) -> ToolCall | None:
    """A call that was refused as a repetition twice `limit` times in a row, and is made once more.

    Hints have had their chance then, and each further step would cost as much as the ones before.
    """
    if not limit:
        return None
    for call in checkpoint.pending_tool_calls:
        if call.kind == "interactive":
            continue
        _, refused = _count_repetitions(checkpoint.messages[:-1], call)
        if refused >= 2 * limit:
            return call
    return None


def _count_repetitions(messages: tuple[Message, ...], call: ToolCall) -> tuple[int, int]:
    """How often the newest steps have made this call with one result, and were refused it."""
    made = refused = 0
    first: ToolResultPart | None = None
    for position in range(len(messages) - 1, 0, -1):
        results, request = messages[position], messages[position - 1]
        if not isinstance(results, ToolMessage):
            continue
        result = _result_of(request, results, call)
        if result is None:
            break
        if _is_refusal(result):
            if made:
                break
            refused += 1
            continue
        first = first or result
        if (result.contents, result.is_error) != (first.contents, first.is_error):
            break
        made += 1
    return made, refused


def _result_of(request: Message, results: ToolMessage, call: ToolCall) -> ToolResultPart | None:
    """The result of the same call in an earlier step."""
    if not isinstance(request, ExpertMessage):
        return None
    same = {
        part.tool_call_id
        for part in request.tool_calls
        if (part.tool_name, part.args, part.args_error)
        == (call.tool_name, call.args, call.args_error)
    }
    return next((part for part in results.contents if part.tool_call_id in same), None)


def _is_refusal(result: ToolResultPart) -> bool:
    first = result.contents[0] if result.contents else None
    text = first.text if first is not None and first.type == "textPart" else ""
    return result.is_error and text.startswith(REFUSED_REPETITION)
