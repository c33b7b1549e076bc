"""Truncates long texts of results, with a hint how to get the rest.

Clients cut long results, or save them where a model does not look. So a result has at most 40,000
characters; fewer where characters need several tokens each, and for some clients.
"""

from dataclasses import dataclass

from perstack.server.resources.uris import job_uri
from perstack.server.summaries import utf8_size
from perstack.server.tools.definitions import JOB_TOOL
from perstack.text import replace_surrogates

MAX_ERROR_CHARACTERS = 10_000
"""Maximum of the text of an error result; some clients cut at 11,000."""

TAIL_SHARE = 0.2
"""Share of the end of the text, where conclusions are, in a first result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputBudget:
    """Maximum size of the text of a result for one client, without the lines around it.

    Attributes:
        characters: So that a block stays below 40,000.
        utf8_bytes: Stays below 25,000 tokens: three bytes are about one.
    """

    characters: int = 39_000
    utf8_bytes: int = 45_000


DEFAULT_BUDGET = OutputBudget()
BUDGET_BY_CLIENT = {
    # Removes the middle of texts above 12,000 bytes, and with it the hint.
    "codex": OutputBudget(characters=9_500, utf8_bytes=9_500),
}
"""Smaller budgets, by the beginning of the client's name for itself."""


def budget_for(client_name: str) -> OutputBudget:
    client = client_name.casefold()
    return next(
        (budget for prefix, budget in BUDGET_BY_CLIENT.items() if client.startswith(prefix)),
        DEFAULT_BUDGET,
    )


def truncate_text(
    text: str, job_id: str, *, budget: OutputBudget, offset: int = 0, has_job_tools: bool = True
) -> tuple[str, bool]:
    """As much of `text` from `offset` on as the budget allows.

    The first result of a text that is too long has its beginning and its end; later ones have
    consecutive pieces.

    Args:
        text: The text of a job.
        job_id: The job.
        budget: The maximum size.
        offset: Where to begin, in characters.
        has_job_tools: Whether the caller has the tools that manage jobs.

    Returns:
        The text, or a part of it with a hint how to get the rest; and whether it is complete.
    """
    full_text = replace_surrogates(text)
    remaining = full_text[offset:]
    if _head(remaining, budget) == remaining:
        return remaining, offset == 0
    tail = "" if offset else _tail(full_text, budget)
    piece = _head(remaining, budget, tail)
    end, total = offset + len(piece), len(full_text)
    note = f"{total - end:,} of {total:,} characters follow."
    if tail:
        note = f"Characters {end:,} to {total - len(tail):,} of {total:,} are left out here."
    note += f" The whole text is the resource {job_uri('result', job_id).text}"
    if has_job_tools:
        note += f"; {JOB_TOOL} with this job_id and offset={end} returns the next part"
    parts = (piece, f"[{note}.]", tail)
    return "\n".join(part for part in parts if part), False


def _head(text: str, budget: OutputBudget, reserved: str = "") -> str:
    piece = text[: budget.characters - len(reserved)].encode()[
        : budget.utf8_bytes - utf8_size(reserved)
    ]
    return piece.decode("utf-8", "ignore")


def _tail(text: str, budget: OutputBudget) -> str:
    last = text[-round(budget.characters * TAIL_SHARE) :].encode()[
        -round(budget.utf8_bytes * TAIL_SHARE) :
    ]
    return last.decode("utf-8", "ignore")
