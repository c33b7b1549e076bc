"""The JSON form of a job's log."""

from collections.abc import Iterable
from typing import Any

from perstack.cli.history import Story
from perstack.cli.selection import Counts, Selection, Shown
from perstack.core.checkpoint import Checkpoint, Job
from perstack.core.wire import checkpoint_to_wire, to_wire

Json = dict[str, Any]


def document(
    story: Story, shown: Iterable[Shown], selection: Selection, checkpoint: Json | None
) -> Json:
    """All of it.

    Args:
        story: The job.
        shown: The events to show, in order.
        selection: What picked them.
        checkpoint: The one that was asked for, see `checkpoint_document`.
    """
    return {
        "job": job_document(story.view.job),
        "events": [event_document(one) for one in shown],
        "summary": counts_document(selection.matched),
        **({"checkpoint": checkpoint} if checkpoint is not None else {}),
        "checkpoints": [
            _stop(entry.checkpoint)
            for entry in story.entries
            if entry.event.type == "completeRun" or entry.event.type.startswith("stopRunBy")
        ],
        "runs": [_run(run) for run in story.view.runs],
        "isLatestJob": story.is_latest,
        "storagePath": str(story.storage),
        "totalEventsBeforeLimit": selection.matched.events,
        "matchedAfterPagination": selection.shown,
    }


def job_document(job: Job) -> Json:
    """A job's summary."""
    return job.model_dump(mode="json", by_alias=True, exclude_none=True)


def event_document(shown: Shown) -> Json:
    """An event as the event stream has it, and whether it is there only as context."""
    event = to_wire(shown.entry.event, shown.entry.checkpoint)
    return {**event, "isContext": True} if shown.is_context else event


def checkpoint_document(checkpoint: Checkpoint, *, has_messages: bool) -> Json:
    """A checkpoint, with its conversation or without."""
    found = checkpoint_to_wire(checkpoint)
    return (
        found
        if has_messages
        else {name: value for name, value in found.items() if name != "messages"}
    )


def counts_document(counts: Counts) -> Json:
    """What events add up to."""
    found: Json = {
        "totalEvents": counts.events,
        "errorCount": counts.errors,
        "toolCallCount": counts.tool_calls,
        "delegationCount": counts.delegations,
    }
    if counts.steps:
        found["stepRange"] = {"min": counts.steps[0], "max": counts.steps[1]}
    return found


def _stop(checkpoint: Checkpoint) -> Json:
    return {
        "id": checkpoint.id,
        "runId": checkpoint.run_id,
        "stepNumber": checkpoint.step_number,
        "status": checkpoint.status,
        "timestamp": checkpoint.updated_at,
    }


def _run(run: Checkpoint) -> Json:
    return {
        "id": run.run_id,
        "expertKey": run.expert.key,
        "status": run.status,
        "checkpointId": run.id,
        "delegatedBy": run.delegated_by.run_id if run.delegated_by else None,
        "usage": run.usage.model_dump(mode="json", by_alias=True),
    }
