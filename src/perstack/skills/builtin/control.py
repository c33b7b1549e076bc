"""`attemptCompletion`, `todo` and `clearTodo`: they change the run, which answers them itself."""

from perstack.core.tools import ToolDefinition
from perstack.skills.builtin.tool import define_tool

DEFINITIONS: tuple[ToolDefinition, ...] = (
    define_tool(
        "attemptCompletion",
        "Say that the task is done; nothing more is asked of you then. Refused, with the list of "
        "them, while todos are open.",
        {
            "properties": {
                "result": {
                    "type": "string",
                    "description": "The answer to the task, complete: nothing else is passed on. "
                    "If left out, the text beside this call is the answer.",
                }
            }
        },
        effect="reads",
    ),
    define_tool(
        "todo",
        "Keep a list of what is left to do. Adds items, marks items as completed, or both; without "
        "arguments it only shows the list.",
        {
            "properties": {
                "newTodos": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Titles of items to add.",
                },
                "completedTodos": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "description": "Ids of items that are done.",
                },
            }
        },
        effect="reads",
    ),
    define_tool("clearTodo", "Empty the todo list.", {"properties": {}}, effect="reads"),
)
"""They touch nothing outside of the run, so for the world they are reading, and can be repeated."""
