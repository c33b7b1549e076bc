"""What there is to count of many jobs, read in one pass that holds one job at a time.

Of an event's body only the few values that are counted leave the database: to build all events
would take ten times as long.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

from perstack.core.checkpoint import Job
from perstack.core.figures import JobFacts, RunFacts
from perstack.core.messages import Usage
from perstack.store.ownership import Ownership
from perstack.store.projection import STATUS_AFTER
from perstack.store.reading import SELECT_JOBS, job_as_shown

Json = dict[str, Any]

UNUSABLE_REPLY = "UnusableReply"
"""The name under which a retry is counted that no error of the provider led to."""

SELECT_SINCE = f"{SELECT_JOBS} WHERE jobs.started_at >= ? ORDER BY jobs.ref"
RESULT = ("toolResult.skillName", "toolResult.toolName", "toolResult.isError")
FIELDS: dict[str, tuple[str, ...]] = {
    "startRun": ("model", "continuedFrom"),
    "resumeFromStop": ("continuedFrom", "stepLimit"),
    "callTools": ("usage", "error"),
    "startVerification": ("usage", "error"),
    "completeRun": ("usage", "error"),
    "retry": ("usage", "error"),
    "stopRunByError": ("usage", "error"),
    "recordToolResult": RESULT,
    "attemptCompletion": RESULT,
}
"""What is counted of each event beyond its columns. SQLite makes a list of two or more."""

COUNTED = {"startGeneration", "startToolCalls", *FIELDS, *STATUS_AFTER}


def _extract(kind: str, fields: tuple[str, ...]) -> str:
    paths = ", ".join(f"'$.{field}'" for field in fields)
    return f"WHEN '{kind}' THEN json_extract(body, {paths})"


# The order of the joins is that of the result, so that nothing has to be sorted or kept. What is
# JSON for Python only, such as a number that is none among the arguments of a call, is read there.
SELECT_FACTS = f"""
    SELECT jobs.id, runs.id, runs.expert_key, events.type, events.step_number, events.timestamp,
        CASE WHEN json_valid(body) THEN
            CASE events.type {" ".join(_extract(*item) for item in FIELDS.items())} END
        ELSE body END
    FROM jobs CROSS JOIN runs ON runs.job = jobs.ref CROSS JOIN events ON events.run = runs.ref
    WHERE jobs.started_at >= ?
        AND events.type IN ({", ".join(f"'{name}'" for name in sorted(COUNTED))})
    ORDER BY jobs.ref, runs.ref, events.sequence
"""  # noqa: S608 - the names are constants

Row = tuple[str, str, str, str, int, int, str | None]
JOB, RUN = itemgetter(0), itemgetter(1)


def survey(
    connection: sqlite3.Connection,
    ownership: Ownership,
    since_ms: int,
    see: Callable[[JobFacts], None],
) -> None:
    """Show `see` each job that began at `since_ms` or later, as they all were at one moment."""
    connection.execute("BEGIN")
    try:
        rows: Iterator[Row] = connection.execute(SELECT_FACTS, (since_ms,))
        jobs = connection.execute(SELECT_SINCE, (since_ms,))
        # Both cursors walk the same jobs in the same order: no job is stored without an event.
        for job_row, (_, of_job) in zip(jobs, groupby(rows, JOB), strict=True):
            see(_job_facts(job_as_shown(job_row, ownership), of_job))
    finally:
        connection.execute("COMMIT")


def _job_facts(job: Job, rows: Iterator[Row]) -> JobFacts:
    runs: dict[str, RunFacts] = {}
    for run_id, of_run in groupby(rows, RUN):
        runs[run_id] = _Count(runs).run(of_run)
    return JobFacts(job, tuple(runs.values()))


class _Count:
    """Counts one run.

    Args:
        earlier: The runs of the job that are counted already; a branch has the model of its base.
    """

    def __init__(self, earlier: dict[str, RunFacts]) -> None:
        self._earlier = earlier
        self._asked_at: int | None = None
        self._called_at: int | None = None
        self._tokens: Counter[str] = Counter()

    def run(self, rows: Iterator[Row]) -> RunFacts:
        """All of its events, in order."""
        facts: RunFacts | None = None
        steps: set[int] = set()
        for _, _, expert_key, kind, step, timestamp, found in rows:
            if facts is None:
                facts = RunFacts(expert_key=expert_key, model="", started_at=timestamp)
            facts.status = STATUS_AFTER.get(kind, facts.status)
            if kind == "startGeneration":
                steps.add(step)
            self._time(facts, kind, timestamp)
            if found is not None:
                self._take(facts, kind, found)
        if facts is None:
            raise ValueError("a run has events")
        facts.steps = len(steps)
        facts.usage = Usage.model_validate(self._tokens)
        return facts

    def _time(self, facts: RunFacts, kind: str, timestamp: int) -> None:
        match kind:
            case "startGeneration":
                self._asked_at = timestamp
            case "startToolCalls":
                self._called_at = timestamp
            case "recordToolResult":
                if self._called_at is not None:
                    facts.tool_ms.append(timestamp - self._called_at)
            case "callTools" | "startVerification" | "retry" | "completeRun" | "stopRunByError":
                if self._asked_at is not None:
                    facts.generation_ms.append(timestamp - self._asked_at)
                self._asked_at = self._called_at = None
            case _:
                # What a stop cut off has no duration, nor has an answer that came after it.
                self._asked_at = self._called_at = None

    def _take(self, facts: RunFacts, kind: str, found: str) -> None:
        values: Any = json.loads(found)
        if isinstance(values, dict):
            values = [_at(cast("Json", values), field) for field in FIELDS.get(kind, ())]
        match kind:
            case "startRun":
                facts.model = values[0]
            case "resumeFromStop":
                self._branch(facts, values)
            case "recordToolResult" | "attemptCompletion":
                skill, tool, is_error = values
                facts.tool_calls[skill, tool] += 1
                if is_error:
                    facts.tool_failures[skill, tool] += 1
            case _ if kind in FIELDS:
                usage, error = values
                self._tokens.update(usage or {})
                if kind == "retry":
                    facts.retries[error["name"] if error else UNUSABLE_REPLY] += 1
                elif kind == "stopRunByError":
                    facts.errors[error["name"]] += 1
            case _:
                return

    def _branch(self, facts: RunFacts, values: Sequence[Any]) -> None:
        base = self._earlier.get((values[0] or "").rpartition("-")[0])
        if base is not None:
            facts.model = base.model


def _at(content: Json, field: str) -> Any:
    """What a field holds; a dot leads into an object."""
    found: Any = content
    for name in field.split("."):
        found = found.get(name) if found else None
    return found
