"""Input and output schemas of the tools.

Flat, without references or unions: clients pass them to models whose providers support little
more, and each word costs tokens. Schemas that experts declare are used as they are.
"""

from typing import Any

from perstack.core.typed_io import argument_schema
from perstack.definition.references import MAX_QUERY_CHARACTERS
from perstack.server.summaries import PUBLIC_STATUS

Schema = dict[str, Any]

LONGEST_WAIT_SECONDS = 3600
MAX_JOBS_LISTED = 100
STATUSES = tuple(PUBLIC_STATUS.values())


def _object_schema(properties: dict[str, Schema], required: tuple[str, ...]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _job_id_schema(description: str) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": 128, "description": description}


def _wait_seconds_schema(default_seconds: float | None) -> Schema:
    purpose = "How long to wait for the result before status running is returned"
    schema: Schema = {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS}
    if default_seconds is None:
        return {**schema, "description": f"{purpose}; by default as long as your client allows."}
    return {**schema, "default": int(default_seconds), "description": f"{purpose}."}


def expert_input(
    default_wait_seconds: float | None, declared_schema: Schema | None = None
) -> Schema:
    """The input schema of an expert's tool.

    Args:
        default_wait_seconds: The default of `wait_seconds`; `None` if it depends on the client.
        declared_schema: The schema of the arguments that the expert declares, if it does.
    """
    common: dict[str, Schema] = {
        "job_id": _job_id_schema("Continue this job instead of starting a new one."),
        "checkpoint_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 160,
            "description": "With job_id: go on from this checkpoint instead of the latest.",
        },
        "files": {
            "type": "array",
            "maxItems": 32,
            "items": {"type": "string", "minLength": 1, "maxLength": 1024},
            "description": "Paths in the expert's workspace that it should look at.",
        },
        "wait_seconds": _wait_seconds_schema(default_wait_seconds),
        **_BUDGET_PROPERTIES,
    }
    if declared_schema is None:
        return _object_schema({"query": _query_schema(_QUERY_DESCRIPTION), **common}, ("query",))
    return argument_schema(
        declared_schema, {"query": _query_schema(_EXTRA_QUERY_DESCRIPTION), **common}
    )


_BUDGET_PROPERTIES: dict[str, Schema] = {
    "max_steps": {"type": "integer", "minimum": 1, "description": "Stop after so many steps."},
    "max_tokens": {"type": "integer", "minimum": 1, "description": "Stop after so many tokens."},
    "max_cost_usd": {"type": "number", "minimum": 0, "description": "Stop after so many dollars."},
    "max_seconds": {"type": "number", "minimum": 0, "description": "Stop after so many seconds."},
}
"""The limits of a call; the job can be continued afterwards."""

BUDGET_ARGUMENTS = tuple(_BUDGET_PROPERTIES)

_QUERY_DESCRIPTION = (
    "The task, a follow-up, or the answer to the open question. "
    "Self-contained: the expert does not see your conversation. With job_id it may be "
    "empty: then the job is waited for if it is running, else resumed."
)
_EXTRA_QUERY_DESCRIPTION = (
    "What else the expert should know; it does not see your conversation. With job_id: a "
    "follow-up, or the answer to the open question; the other arguments of the task are not "
    "needed then. Without it, the job is waited for if it is running, else resumed."
)


def _query_schema(description: str) -> Schema:
    return {"type": "string", "maxLength": MAX_QUERY_CHARACTERS, "description": description}


def job_input(default_wait_seconds: float | None) -> Schema:
    """The input schema of the tool that waits for a job."""
    return _object_schema(
        {
            "job_id": _job_id_schema("The job."),
            "wait_seconds": _wait_seconds_schema(default_wait_seconds),
            "offset": {
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "For a text too long for one result: where to begin, in characters.",
            },
        },
        ("job_id",),
    )


JOBS_INPUT: Schema = _object_schema(
    {
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_JOBS_LISTED, "default": 20},
        "status": {
            "type": "string",
            "enum": list(STATUSES),
            "description": "Only jobs with this status.",
        },
    },
    (),
)

CANCEL_INPUT: Schema = _object_schema({"job_id": _job_id_schema("The job to stop.")}, ("job_id",))

RESULT_OUTPUT: Schema = {
    "type": "object",
    "properties": {
        "job_id": {"type": "string"},
        "run_id": {"type": "string"},
        "checkpoint_id": {"type": "string"},
        "expert": {"type": "string"},
        "status": {"type": "string", "enum": list(STATUSES)},
        "text": {
            "type": "string",
            "description": "The answer; for other statuses the question, the error or what has "
            "been said so far.",
        },
        "next": {"type": "string", "description": "How to go on, unless it is completed."},
        "steps": {"type": "integer"},
        "question": {
            "type": "object",
            "description": "What waits for an answer: message, schema, tool_call_id, tool_name, "
            "arguments.",
        },
        "sources": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Pages that the text cites: url, title.",
        },
        "usage": {"type": "object", "description": "Tokens."},
        "verifications": {
            "type": "array",
            "items": {"type": "object"},
            "description": "What was checked before the expert could complete: name, priority, "
            "passed, exit_code, problem, output.",
        },
        "trace_id": {"type": "string"},
    },
    "required": ["job_id", "run_id", "checkpoint_id", "expert", "status", "text", "steps", "usage"],
}


def expert_output(declared_schema: Schema | None) -> Schema:
    """The output schema of an expert's tool.

    Args:
        declared_schema: The schema of the answer that the expert declares, if it does.
    """
    if declared_schema is None:
        return RESULT_OUTPUT
    answer = {
        name: value for name, value in declared_schema.items() if name not in ("$defs", "$schema")
    }
    schema = {**RESULT_OUTPUT, "properties": {**RESULT_OUTPUT["properties"], "output": answer}}
    return {**schema, "$defs": declared_schema["$defs"]} if "$defs" in declared_schema else schema


JOBS_OUTPUT: Schema = {
    "type": "object",
    "properties": {
        "jobs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "job_id": {"type": "string"},
                    "expert": {"type": "string"},
                    "status": {"type": "string", "enum": list(STATUSES)},
                    "query": {"type": "string"},
                    "steps": {"type": "integer"},
                    "started_at": {"type": "string"},
                    "updated_at": {"type": "string"},
                },
                "required": ["job_id", "expert", "status"],
            },
        }
    },
    "required": ["jobs"],
}
