"""`todo`, `clearTodo` and `attemptCompletion`: tools of the base skill that change the run."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import ExpertMessage, ToolCall, ToolResult, text_result
from perstack.core.outputs import RESULT, answer_in, compact
from perstack.core.todo import TodoList
from perstack.core.tools import argument_problems
from perstack.definition.names import BASE_SKILL
from perstack.definition.record import Record
from perstack.definition.tables import Table

ATTEMPT_COMPLETION = "attemptCompletion"
CONTROL_TOOLS = frozenset({"todo", "clearTodo", ATTEMPT_COMPLETION})


class TodoInput(Record):
    """Arguments of `todo`."""

    new_todos: tuple[str, ...] = ()
    completed_todos: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run answers; `is_typed` means the JSON of a value that fits what it declares."""

    text: str
    is_typed: bool = False


class CompletionInput(Record):
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
        wanted = TodoInput.model_validate(call.args)
    except ValidationError as error:
        return _bad_arguments(call, error), todos
    changed = todos.add(wanted.new_todos).complete(wanted.completed_todos)
    return _json_result(call, {"todos": [todo.model_dump() for todo in changed.todos]}), changed


def judge_completion(
    checkpoint: Checkpoint, call: ToolCall, declared: Table | None
) -> tuple[ToolResult, bool]:
    """Answer an `attemptCompletion` call, and say whether the run may end.

    It may not while todos are open, while other calls of the same message failed (the expert has
    not read the failure yet), while delegates or questions of the same message are unanswered or
    while the answer does not fit what the expert declares to answer.
    """
    if declared is not None:
        _, problems = answer_in(call.args, declared)
        if problems:
            return text_result(call, _misfit(problems), is_error=True), False
    else:
        try:
            CompletionInput.model_validate(call.args)
        except ValidationError as error:
            return _bad_arguments(call, error), False
    remaining = checkpoint.todos.remaining
    if remaining:
        open_todos = {"remainingTodos": [todo.model_dump() for todo in remaining]}
        return _json_result(call, open_todos), False
    obstacle = _obstacle(checkpoint, call)
    if obstacle is not None:
        return text_result(call, obstacle, is_error=True), False
    return accepted(call), True


def accepted(call: ToolCall) -> ToolResult:
    """The answer to an `attemptCompletion` call that ends the run."""
    return _json_result(call, {})


def completing_call(checkpoint: Checkpoint) -> ToolCall | None:
    """The call with which the expert says that it has finished."""
    for call in checkpoint.tool_calls:
        if is_control(call) and call.tool_name == ATTEMPT_COMPLETION:
            return call
    return None


def completion(checkpoint: Checkpoint, declared: Table | None) -> Answer:
    """The answer of a run that has finished.

    That is the `result` of its `attemptCompletion`, else the text that the model said beside it or
    instead of it.
    """
    last = checkpoint.messages[-1]
    said = last.text if isinstance(last, ExpertMessage) else ""
    call = completing_call(checkpoint)
    if call is None:
        answer, misfit = plain_answer(said, declared)
        return Answer(said) if misfit else answer
    if declared is not None:
        text, problems = answer_in(call.args, declared)
        if not problems:  # else what is declared has changed since it was accepted
            return Answer(text, is_typed=True)
    result = call.args.get(RESULT)
    if result:
        return Answer(result if isinstance(result, str) else compact(result))
    return Answer(said)


def plain_answer(text: str, declared: Table | None) -> tuple[Answer, str | None]:
    """The answer that a reply of plain text gives, and what to tell the model if it is none."""
    if declared is None:
        return Answer(text), None
    answer, problems = answer_in({RESULT: text}, declared)
    return Answer(answer, is_typed=True), _misfit(problems) if problems else None


def _misfit(problems: tuple[str, ...]) -> str:
    return f"Not completed: {'; '.join(problems)}. Answer again with a result that fits its schema."


def _obstacle(checkpoint: Checkpoint, call: ToolCall) -> str | None:
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


def _bad_arguments(call: ToolCall, error: ValidationError) -> ToolResult:
    facts = {"error": "InvalidArguments", "message": argument_problems(error)}
    return text_result(call, json.dumps(facts), is_error=True)
