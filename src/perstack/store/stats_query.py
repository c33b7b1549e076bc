"""Figures of many jobs, read in one pass that holds one job at a time.

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

from perstack.analysis.statistics import JobFacts, RunFacts
from perstack.core.checkpoint import Job
from perstack.core.events import parse_checkpoint_id
from perstack.core.messages import Usage
from perstack.errors import ConfigError, SkillError
from perstack.store.leases import LeasePolicy
from perstack.store.projection import STATUS_BY_EVENT_TYPE
from perstack.store.statements_read import SELECT_JOBS, job_from_row

Json = dict[str, Any]

UNUSABLE_REPLY = "UnusableReply"
"""The name under which a retry is counted that no error of the provider led to."""

SELECT_JOBS_SINCE = f"{SELECT_JOBS} WHERE jobs.started_at >= ? ORDER BY jobs.ref"
TOOL_RESULT_FIELDS = ("toolResult.skillName", "toolResult.toolName", "toolResult.isError")
LOCAL_ERRORS = (ConfigError.__name__, SkillError.__name__)
"""Errors before a provider is asked."""

GENERATION_FIELDS = ("usage", "error", "activationId")
EXTRACTED_FIELDS: dict[str, tuple[str, ...]] = {
    "startRun": ("model", "continuedFrom"),
    "resumeFromStop": ("continuedFrom", "stepLimit"),
    "callTools": GENERATION_FIELDS,
    "compactHistory": GENERATION_FIELDS,
    "startVerification": GENERATION_FIELDS,
    "completeRun": GENERATION_FIELDS,
    "retry": GENERATION_FIELDS,
    "stopRunByError": GENERATION_FIELDS,
    "recordToolResult": TOOL_RESULT_FIELDS,
    "attemptCompletion": TOOL_RESULT_FIELDS,
}
"""What is counted of each event beyond its columns. SQLite makes a list of two or more."""

COUNTED_TYPES = {"startGeneration", "startToolCalls", *EXTRACTED_FIELDS, *STATUS_BY_EVENT_TYPE}


def _extract_clause(event_type: str, fields: tuple[str, ...]) -> str:
    paths = ", ".join(f"'$.{field}'" for field in fields)
    return f"WHEN '{event_type}' THEN json_extract(body, {paths})"


# The order of the joins is that of the result, so that nothing has to be sorted or kept. What is
# JSON for Python only, such as a number that is none among the arguments of a call, is read there.
SELECT_FACTS = f"""
    SELECT jobs.id, runs.id, runs.expert_key, events.type, events.step_number, events.timestamp,
        CASE WHEN json_valid(body) THEN
            CASE events.type
                {" ".join(_extract_clause(*item) for item in EXTRACTED_FIELDS.items())}
            END
        ELSE body END
    FROM jobs CROSS JOIN runs ON runs.job = jobs.ref CROSS JOIN events ON events.run = runs.ref
    WHERE jobs.started_at >= ?
        AND events.type IN ({", ".join(f"'{name}'" for name in sorted(COUNTED_TYPES))})
    ORDER BY jobs.ref, runs.ref, events.sequence
"""  # noqa: S608 - the names are constants

FactsRow = tuple[str, str, str, str, int, int, str | None]
JOB_OF_ROW, RUN_OF_ROW = itemgetter(0), itemgetter(1)


def scan_jobs(
    connection: sqlite3.Connection,
    lease_policy: LeasePolicy,
    since_ms: int,
    on_job: Callable[[JobFacts], None],
) -> None:
    """Show `on_job` each job that began at `since_ms` or later, as they all were at one moment."""
    connection.execute("BEGIN")
    try:
        rows: Iterator[FactsRow] = connection.execute(SELECT_FACTS, (since_ms,))
        jobs = connection.execute(SELECT_JOBS_SINCE, (since_ms,))
        # Both cursors walk the same jobs in the same order: no job is stored without an event.
        for job_row, (_, job_rows) in zip(jobs, groupby(rows, JOB_OF_ROW), strict=True):
            on_job(_job_facts(job_from_row(job_row, lease_policy), job_rows))
    finally:
        connection.execute("COMMIT")


def _job_facts(job: Job, rows: Iterator[FactsRow]) -> JobFacts:
    runs: dict[str, RunFacts] = {}
    for run_id, run_rows in groupby(rows, RUN_OF_ROW):
        runs[run_id] = _RunFactsBuilder(runs).build(run_rows)
    return JobFacts(job, tuple(runs.values()))


class _RunFactsBuilder:
    """Counts one run.

    Args:
        earlier_runs: Runs of the job counted already; a branch has the model of its base.
    """

    def __init__(self, earlier_runs: dict[str, RunFacts]) -> None:
        self._earlier_runs = earlier_runs
        self._generation_started_at: int | None = None
        self._calls_started_at: int | None = None
        self._tokens: Counter[str] = Counter()

    def build(self, rows: Iterator[FactsRow]) -> RunFacts:
        """All of its events, in order."""
        facts: RunFacts | None = None
        steps: set[int] = set()
        for _, _, expert_key, event_type, step, timestamp, extracted in rows:
            if facts is None:
                facts = RunFacts(expert_key=expert_key, model="", started_at=timestamp)
            facts.status = STATUS_BY_EVENT_TYPE.get(event_type, facts.status)
            if event_type == "startGeneration":
                steps.add(step)
            values = _extracted_values(event_type, extracted)
            self._add_duration(facts, event_type, timestamp, values)
            if values:
                self._add_extracted(facts, event_type, values)
        if facts is None:
            raise ValueError("a run has events")
        facts.steps = len(steps)
        cost = None if facts.unpriced_tokens else facts.known_cost_usd
        facts.usage = Usage.model_validate({**self._tokens, "costUsd": cost})
        return facts

    def _add_duration(
        self, facts: RunFacts, event_type: str, timestamp: int, values: Sequence[Any]
    ) -> None:
        match event_type:
            case "startGeneration":
                self._generation_started_at = timestamp
            case "startToolCalls":
                self._calls_started_at = timestamp
            case "recordToolResult":
                if self._calls_started_at is not None:
                    facts.tool_ms.append(timestamp - self._calls_started_at)
            case "callTools" | "startVerification" | "retry" | "completeRun" | "stopRunByError":
                if self._generation_started_at is not None and _ends_exchange(values):
                    facts.generation_ms.append(timestamp - self._generation_started_at)
                self._generation_started_at = self._calls_started_at = None
            case _:
                # What a stop cut off has no duration, nor has an answer that came after it.
                self._generation_started_at = self._calls_started_at = None

    def _add_extracted(self, facts: RunFacts, event_type: str, values: Sequence[Any]) -> None:
        match event_type:
            case "startRun":
                facts.model = values[0]
            case "resumeFromStop":
                self._inherit_model(facts, values)
            case "recordToolResult" | "attemptCompletion":
                skill, tool, is_error = values
                facts.tool_calls[skill, tool] += 1
                if is_error:
                    facts.tool_failures[skill, tool] += 1
            case _ if event_type in EXTRACTED_FIELDS:
                usage, error, _ = values
                self._add_usage(facts, usage or {})
                if event_type == "retry":
                    facts.retries[error["name"] if error else UNUSABLE_REPLY] += 1
                elif event_type == "stopRunByError":
                    facts.errors[error["name"]] += 1
            case _:
                return

    def _add_usage(self, facts: RunFacts, usage: Json) -> None:
        cost = usage.pop("costUsd", None)
        self._tokens.update(usage)
        if cost is None:
            facts.unpriced_tokens += usage.get("totalTokens", 0)
        else:
            facts.known_cost_usd += cost

    def _inherit_model(self, facts: RunFacts, values: Sequence[Any]) -> None:
        base = self._earlier_runs.get(parse_checkpoint_id(values[0] or "").run_id)
        if base is not None:
            facts.model = base.model


def _ends_exchange(values: Sequence[Any]) -> bool:
    """Whether a provider was asked, by the process that wrote the event."""
    _, error, activation_id = values
    return activation_id is None and (error is None or error["name"] not in LOCAL_ERRORS)


def _extracted_values(event_type: str, extracted: str | None) -> Sequence[Any]:
    """The values of `EXTRACTED_FIELDS`, or none where the type has none."""
    if extracted is None:
        return ()
    values: Any = json.loads(extracted)
    if isinstance(values, dict):
        fields = EXTRACTED_FIELDS.get(event_type, ())
        return [_value_at(cast("Json", values), field) for field in fields]
    return values


def _value_at(content: Json, field: str) -> Any:
    """What a field holds; a dot leads into an object."""
    value: Any = content
    for name in field.split("."):
        value = value.get(name) if value else None
    return value
