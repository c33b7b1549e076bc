"""`todo`, `clearTodo` and `attemptCompletion`: tools of the base skill that change the run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pydantic import ValidationError

from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import ExpertMessage, Message, ToolCall, ToolResult, text_result
from perstack.core.todo import TodoList
from perstack.core.tools import describe_validation_error
from perstack.core.typed_io import RESULT, parse_output, to_compact_json
from perstack.definition.references import BASE_SKILL
from perstack.models import FrozenModel, TomlTable

ATTEMPT_COMPLETION = "attemptCompletion"
TODO = "todo"
CONTROL_TOOLS = frozenset({TODO, "clearTodo", ATTEMPT_COMPLETION})


class TodoInput(FrozenModel):
    """Arguments of `todo`."""

    new_todos: tuple[str, ...] = ()
    completed_todos: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """What a run answers; `is_typed` means the JSON of a value that fits what it declares."""

    text: str
    is_typed: bool = False


class CompletionInput(FrozenModel):
    """Arguments of `attemptCompletion`."""

    result: str | None = None


def is_control(call: ToolCall) -> bool:
    """Whether the run answers this call itself."""
    return call.skill_name == BASE_SKILL and call.tool_name in CONTROL_TOOLS


def change_todos(todos: TodoList, call: ToolCall) -> tuple[ToolResult, TodoList]:
    """Answer a `todo` or `clearTodo` call; the list is unchanged if the arguments are wrong."""
    if call.tool_name == "clearTodo":
        return _json_result(call, {"todos": []}), TodoList()
    try:
        arguments = TodoInput.model_validate(call.args)
    except ValidationError as error:
        return _invalid_arguments_result(call, error), todos
    changed = todos.add(arguments.new_todos).complete(arguments.completed_todos)
    return _json_result(call, {"todos": [todo.model_dump() for todo in changed.todos]}), changed


def check_completion(
    checkpoint: Checkpoint, call: ToolCall, output_schema: TomlTable | None
) -> tuple[ToolResult, bool]:
    """Answer an `attemptCompletion` call, and say whether the run may end.

    It may not while todos are open, while other calls of the same message failed (the expert has
    not read the failure yet), while delegates or questions of the same message are unanswered or
    while the answer does not fit what the expert declares to answer.
    """
    if output_schema is not None:
        _, problems = parse_output(call.args, output_schema)
        if problems:
            return text_result(call, _mismatch_message(problems), is_error=True), False
    else:
        try:
            CompletionInput.model_validate(call.args)
        except ValidationError as error:
            return _invalid_arguments_result(call, error), False
    remaining = checkpoint.todos.remaining
    if remaining:
        open_todos = {"remainingTodos": [todo.model_dump() for todo in remaining]}
        return _json_result(call, open_todos), False
    blocker = _completion_blocker(checkpoint, call)
    if blocker is not None:
        return text_result(call, blocker, is_error=True), False
    return accepted_result(call), True


def accepted_result(call: ToolCall) -> ToolResult:
    """The answer to an `attemptCompletion` call that ends the run."""
    return _json_result(call, {})


def completion_call(checkpoint: Checkpoint) -> ToolCall | None:
    """The call with which the expert says that it has finished."""
    for call in checkpoint.tool_calls:
        if is_control(call) and call.tool_name == ATTEMPT_COMPLETION:
            return call
    return None


def final_answer(checkpoint: Checkpoint, output_schema: TomlTable | None) -> FinalAnswer:
    """The answer of a run that has finished.

    That is the `result` of its `attemptCompletion`, else the text that the model said beside it or
    instead of it.
    """
    message_text = reply_text(checkpoint.messages)
    call = completion_call(checkpoint)
    if call is None:
        answer, mismatch = answer_from_text(message_text, output_schema)
        return FinalAnswer(message_text) if mismatch else answer
    if output_schema is not None:
        text, problems = parse_output(call.args, output_schema)
        if not problems:  # else what is declared has changed since it was accepted
            return FinalAnswer(text, is_typed=True)
    result = call.args.get(RESULT)
    if result:
        return FinalAnswer(result if isinstance(result, str) else to_compact_json(result))
    return FinalAnswer(message_text)


def reply_text(messages: Sequence[Message]) -> str:
    """The text of the reply at the end of a conversation, which may have been paused."""
    replies = takewhile(lambda message: isinstance(message, ExpertMessage), reversed(messages))
    texts = [reply.text for reply in replies if isinstance(reply, ExpertMessage)]
    return "".join(reversed(texts))


def answer_from_text(text: str, output_schema: TomlTable | None) -> tuple[FinalAnswer, str | None]:
    """The answer in a plain text reply, and the message to the model if it is invalid."""
    if output_schema is None:
        return FinalAnswer(text), None
    answer, problems = parse_output({RESULT: text}, output_schema)
    return FinalAnswer(answer, is_typed=True), _mismatch_message(problems) if problems else None


def _mismatch_message(problems: tuple[str, ...]) -> str:
    return f"Not completed: {'; '.join(problems)}. Answer again with a result that fits its schema."


def _completion_blocker(checkpoint: Checkpoint, call: ToolCall) -> str | None:
    failed = [result.tool_name for result in checkpoint.tool_results if result.is_error]
    if failed:
        return (
            f"Not completed: {', '.join(failed)} failed in the same message. "
            "Read the error, put it right or accept it, then call attemptCompletion again."
        )
    others = [other.tool_name for other in checkpoint.pending_tool_calls if other.id != call.id]
    if others:
        return (
            f"Not completed: {', '.join(others)} in the same message is not answered yet. "
            "Wait for the answer, then call attemptCompletion on its own."
        )
    return None


def _json_result(call: ToolCall, content: dict[str, Any]) -> ToolResult:
    return text_result(call, json.dumps(content, ensure_ascii=False))


def _invalid_arguments_result(call: ToolCall, error: ValidationError) -> ToolResult:
    facts = {"error": "InvalidArguments", "message": describe_validation_error(error)}
    return text_result(call, json.dumps(facts), is_error=True)
