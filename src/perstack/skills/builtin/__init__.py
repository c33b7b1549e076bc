"""The base skill: the tools that every expert has.

The names are here, so that the tools of experts can be listed without loading what executes them.
"""

DEFAULT_TOOL_NAMES = (
    "attemptCompletion",
    "todo",
    "clearTodo",
    "exec",
    "readTextFile",
    "readImageFile",
    "readPdfFile",
    "writeTextFile",
    "editTextFile",
)
"""The tools of an expert that picks none; `exec` among them can do what the others do."""
