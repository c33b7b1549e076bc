"""What a request must satisfy before there is a job, whatever way it came in."""

import os
import re
from pathlib import Path

from perstack.definition.references import MAX_QUERY_CHARACTERS
from perstack.errors import ConfigError
from perstack.runtime.start_plan import JobRequest
from perstack.skills.builtin.failures import ToolFailure
from perstack.skills.builtin.workspace import Workspace

MAX_ID_CHARACTERS = 255

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def check_query(request: JobRequest) -> None:
    """Check the length of the query, and that it and an answer are text that can be passed on.

    Raises:
        ConfigError: It is too long, empty for a new job, or no text.
    """
    _check_text(request.query, "query")
    if request.answer is not None:
        _check_text(request.answer.text, "answer")
    length = len(request.query)
    if length > MAX_QUERY_CHARACTERS:
        raise ConfigError(
            f"The query has {length:,} characters; the limit is {MAX_QUERY_CHARACTERS:,}.",
            hint="Put the material into a file of the workspace and name its path in the query.",
        )
    if request.job_id is None and not request.query.strip():
        raise ConfigError("The query is empty.", hint="Say what the expert shall do.")


def _check_text(text: str, what: str) -> None:
    found = _NO_TEXT.search(text)
    if found is not None:
        fault = "a null character" if found[0] == "\0" else "a character that is not Unicode"
        raise ConfigError(
            f"The {what} is no text: character {found.start() + 1:,} is {fault}.",
            hint="Give it as UTF-8.",
        )


def check_files(workspace: Path, files: tuple[str, ...]) -> None:
    """Check that the files that a caller points to can be read in the workspace.

    Raises:
        ConfigError: One is missing, is no file, cannot be read, or is outside.
    """
    if not files:
        return
    opened = Workspace(workspace)
    for path in files:
        try:
            with opened.entry(path, follow=True) as entry, entry.open(os.O_RDONLY):
                pass
        except (ToolFailure, ValueError) as error:
            reason = error.message if isinstance(error, ToolFailure) else f"{path!r} is no path."
            raise ConfigError(f"files: {reason}", hint="Name files of the workspace.") from error


def check_new_ids(request: JobRequest) -> None:
    """Check the ids that a caller gives to a new job or run.

    Raises:
        ConfigError: One is empty or too long, or has spaces or control characters.
    """
    for kind, new_id in (("job", request.new_job_id), ("run", request.new_run_id)):
        if new_id is None:
            continue
        is_fit = 0 < len(new_id) <= MAX_ID_CHARACTERS and new_id.isprintable() and " " not in new_id
        if not is_fit:
            raise ConfigError(
                f"The {kind} id {new_id[:80]!r} cannot be used.",
                hint=f"An id has 1 to {MAX_ID_CHARACTERS} printable characters without spaces.",
            )
