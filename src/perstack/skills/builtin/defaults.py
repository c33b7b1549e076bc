"""Which tools of the base skill an expert has that picks none.

By themselves, so that whoever lists the tools of experts need not load what executes them.
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
"""With `exec` among them, they can do what the other tools do."""
