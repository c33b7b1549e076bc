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
from typing import Any

from perstack.core.checkpoint import Job
from perstack.core.figures import JobFacts, RunFacts
from perstack.core.messages import Usage
from perstack.store.ownership import Ownership
from perstack.store.projection import STATUS_AFTER
from perstack.store.reading import SELECT_JOBS, job_as_shown

UNUSABLE_REPLY = "UnusableReply"
"""The name under which a retry is counted that no error of the provider led to."""

SELECT_SINCE = f"{SELECT_JOBS} WHERE jobs.started_at >= ? ORDER BY jobs.ref"
COUNTED = (
    "startGeneration",
    "callTools",
    "startVerification",
    "retry",
    "startToolCalls",
    "recordToolResult",
    "attemptCompletion",
    *STATUS_AFTER,
)
# The order of the joins is that of the result, so that nothing has to be sorted or kept.
SELECT_FACTS = f"""
    SELECT jobs.id, runs.id, runs.expert_key, events.type, events.step_number, events.timestamp,
        CASE events.type
            WHEN 'startRun' THEN json_extract(body, '$.model', '$.continuedFrom')
            WHEN 'resumeFromStop' THEN json_extract(body, '$.continuedFrom', '$.stepLimit')
            WHEN 'callTools' THEN json_extract(body, '$.usage')
            WHEN 'completeRun' THEN json_extract(body, '$.usage')
            WHEN 'startVerification' THEN json_extract(body, '$.usage')
            WHEN 'retry' THEN json_extract(body, '$.error.name', '$.usage')
            WHEN 'stopRunByError' THEN json_extract(body, '$.error.name', '$.usage')
            WHEN 'recordToolResult' THEN json_extract(
                body, '$.toolResult.skillName', '$.toolResult.toolName', '$.toolResult.isError')
            WHEN 'attemptCompletion' THEN json_extract(
                body, '$.toolResult.skillName', '$.toolResult.toolName', '$.toolResult.isError')
        END
    FROM jobs CROSS JOIN runs ON runs.job = jobs.ref CROSS JOIN events ON events.run = runs.ref
    WHERE jobs.started_at >= ? AND events.type IN ({", ".join(f"'{name}'" for name in COUNTED)})
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
        match kind:
            case "startRun":
                facts.model = values[0]
            case "resumeFromStop":
                self._branch(facts, values)
            case "callTools" | "completeRun" | "startVerification":
                self._tokens.update(values)
            case "retry":
                facts.retries[values[0] or UNUSABLE_REPLY] += 1
                self._tokens.update(values[1] or {})
            case "stopRunByError":
                facts.errors[values[0]] += 1
                self._tokens.update(values[1] or {})
            case _:
                skill, tool, is_error = values
                facts.tool_calls[skill, tool] += 1
                if is_error:
                    facts.tool_failures[skill, tool] += 1

    def _branch(self, facts: RunFacts, values: Sequence[Any]) -> None:
        base = self._earlier.get((values[0] or "").rpartition("-")[0])
        if base is not None:
            facts.model = base.model
