"""Reads jobs from the JSON file layout that `upstream_export` writes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from perstack.core import events as ev
from perstack.core.history import newest_checkpoints
from perstack.core.machine import IllegalTransitionError
from perstack.core.messages import InstructionMessage, Message, ToolResult, Usage
from perstack.errors import ConfigError
from perstack.store.projection import group_by_run
from perstack.store.transfer.event_reconstruction import GenerationFact, RunSnapshot, reconstruct
from perstack.store.transfer.job_archive import ArchivedJob
from perstack.store.transfer.upstream_export import JOBS_FOLDER

Json = dict[str, Any]

JOB_FILE = "job.json"
COMPLETE_RUN = "completeRun"
UNFINISHED_STATUSES = frozenset({"init", "proceeding"})
_MESSAGE_ADAPTER: TypeAdapter[Message] = TypeAdapter(Message)


def find_job_folders(folder: Path) -> list[Path]:
    """The folders of the jobs in `folder`: an export, a workspace's `perstack`, or a single job.

    Raises:
        ConfigError: There are none.
    """
    folders = [
        path.parent
        for path in (folder / JOB_FILE, *sorted(folder.glob(f"{JOBS_FOLDER}/*/{JOB_FILE}")))
    ]
    folders = [job_folder for job_folder in folders if (job_folder / JOB_FILE).is_file()]
    if not folders:
        raise ConfigError(
            f"{folder} has no jobs.",
            hint=f"Name a folder that has {JOBS_FOLDER}/JOB/{JOB_FILE} in it.",
        )
    return folders


def read_job(job_folder: Path) -> ArchivedJob:
    """A job with events made from its files.

    Raises:
        ConfigError: A file cannot be read or understood.
    """
    job = _read_json(job_folder / JOB_FILE)
    try:
        events = tuple(_job_events(job_folder, job))
        newest_checkpoints(group_by_run(events))
    except (AttributeError, KeyError, TypeError, ValueError, IllegalTransitionError) as error:
        raise ConfigError(
            f"{job_folder} holds a job that cannot be understood.",
            hint="It may come from a version that this one does not know.",
        ) from error
    return ArchivedJob(str(job["id"]), events)


@dataclass(slots=True)
class _JobFiles:
    """What the files of a job say, as far as it is of use."""

    job: Json
    newest_checkpoints: dict[str | None, Json] = field(default_factory=dict[str | None, Json])
    run_settings: dict[str, Json] = field(default_factory=dict[str, Json])
    generation_facts: dict[str, GenerationFact] = field(default_factory=dict[str, GenerationFact])
    completions: dict[str, GenerationFact] = field(default_factory=dict[str, GenerationFact])
    skill_names: dict[str, str] = field(default_factory=dict[str, str])
    newest_run_ids: dict[str, str] = field(default_factory=dict[str, str])
    """The run that continues each run: upstream gives a continued run a new id."""


def _job_events(job_folder: Path, job: Json) -> list[ev.RunEvent]:
    files = _JobFiles(job)
    _select_newest_checkpoints(files, job_folder / "checkpoints")
    if None not in files.newest_checkpoints:
        raise ConfigError(
            f"{job_folder} has no checkpoint of the expert that the job began with.",
            hint="Nothing of it can be continued.",
        )
    for path in sorted((job_folder / "runs").glob("*/run-setting.json")):
        setting = _read_json(path)
        files.run_settings[setting["runId"]] = setting
    for path in sorted((job_folder / "runs").glob("*/event-*.json")):
        _collect_facts(files, _read_json(path))
    runs = [
        reconstruct(_run_snapshot(files, checkpoint))
        for checkpoint in files.newest_checkpoints.values()
    ]
    runs.sort(key=_is_delegated)
    first, *later_events = (event for run_events in runs for event in run_events)
    # Runs interleaved by time, each in its own order, after the job's first event.
    later_events.sort(key=lambda event: event.stamp.timestamp)
    return cast("list[ev.RunEvent]", [first, *later_events])


def _select_newest_checkpoints(files: _JobFiles, folder: Path) -> None:
    """Find the newest checkpoint of each run. Of the others, which are large, nothing is kept."""
    call_ids: dict[str, str | None] = {}
    for path in sorted(folder.glob("*.json")):
        checkpoint = _read_json(path)
        call_id = call_ids[checkpoint["runId"]] = _delegate_call_id(checkpoint)
        newest = files.newest_checkpoints.get(call_id)
        if newest is None or _progress_key(checkpoint) >= _progress_key(newest):
            files.newest_checkpoints[call_id] = checkpoint
    files.newest_run_ids = {
        run_id: files.newest_checkpoints[call]["runId"] for run_id, call in call_ids.items()
    }


def _is_delegated(run_events: Sequence[ev.StoredEvent]) -> bool:
    first = run_events[0]
    return isinstance(first, ev.StartRun) and first.delegated_by is not None


def _progress_key(checkpoint: Json) -> tuple[int, int, bool]:
    return (
        int(checkpoint["stepNumber"]),
        len(checkpoint["messages"]),
        checkpoint["status"] not in UNFINISHED_STATUSES,
    )


def _delegate_call_id(checkpoint: Json) -> str | None:
    """The call that a run answers, which identifies a run within its job."""
    delegated_by = checkpoint.get("delegatedBy")
    return None if delegated_by is None else str(delegated_by["toolCallId"])


def _collect_facts(files: _JobFiles, event: Json) -> None:
    if event["type"] == COMPLETE_RUN:
        files.completions[event["runId"]] = _generation_fact(event)
    elif "id" in (message := event.get("newMessage", {})):
        # What follows from the calls of a message repeats it, after a stop without its tokens.
        files.generation_facts.setdefault(message["id"], _generation_fact(event))
    for name in ("toolCalls", "toolResults", "newToolResults"):
        _collect_skill_names(files, event.get(name) or ())
    _collect_skill_names(
        files, [event[name] for name in ("toolCall", "toolResult") if event.get(name)]
    )


def _generation_fact(event: Json) -> GenerationFact:
    return GenerationFact(
        step_number=int(event["stepNumber"]),
        timestamp=int(event["timestamp"]),
        usage=_parse_usage(event.get("usage")),
    )


def _collect_skill_names(files: _JobFiles, tool_calls: Iterable[Json]) -> None:
    files.skill_names.update({call["id"]: call["skillName"] for call in tool_calls})


def _run_snapshot(files: _JobFiles, checkpoint: Json) -> RunSnapshot:
    run_id: str = checkpoint["runId"]
    run_setting = files.run_settings.get(run_id, {})
    results = [_parse_tool_result(raw) for raw in checkpoint.get("partialToolResults") or ()]
    _collect_skill_names(files, checkpoint.get("pendingToolCalls") or ())
    files.skill_names.update({one.id: one.skill_name for one in results})
    step_number = int(checkpoint["stepNumber"])
    error = checkpoint.get("error")
    return RunSnapshot(
        job_id=str(files.job["id"]),
        run_id=run_id,
        expert=_parse_expert(checkpoint["expert"]),
        status=checkpoint["status"],
        step_number=step_number,
        step_limit=max(step_number, int(run_setting.get("maxSteps") or 0)),
        started_at=int(run_setting.get("startedAt") or files.job["startedAt"]),
        messages=[_parse_message(one) for one in checkpoint["messages"]],
        provider=str(run_setting.get("providerConfig", {}).get("providerName", "")),
        model=run_setting.get("model") or "",
        facts=_message_facts(files, checkpoint),
        skill_names=files.skill_names,
        results=results,
        delegated_by=_parse_delegated_by(files, checkpoint),
        delegate_to=[
            _parse_delegation(files, run_id, one) for one in checkpoint.get("delegateTo") or ()
        ],
        error=None if error is None else ev.RunError.model_validate(error),
    )


def _message_facts(files: _JobFiles, checkpoint: Json) -> dict[int, GenerationFact]:
    messages: list[Json] = checkpoint["messages"]
    facts = {
        position: files.generation_facts[message["id"]]
        for position, message in enumerate(messages)
        if message.get("id") in files.generation_facts
    }
    # What a run ended with has no id in the event that says so.
    completion = files.completions.get(checkpoint["runId"])
    return facts if completion is None else {**facts, len(messages) - 1: completion}


def _parse_delegated_by(files: _JobFiles, checkpoint: Json) -> ev.DelegatedBy | None:
    raw = checkpoint.get("delegatedBy")
    if raw is None:
        return None
    return ev.DelegatedBy(
        expert=_parse_expert(raw["expert"]),
        tool_call_id=raw["toolCallId"],
        tool_name=raw["toolName"],
        checkpoint_id=raw["checkpointId"],
        run_id=files.newest_run_ids.get(str(raw["runId"]), str(raw["runId"])),
    )


def _parse_delegation(files: _JobFiles, run_id: str, raw: Json) -> ev.Delegation:
    call_id: str = raw["toolCallId"]
    child_checkpoint = files.newest_checkpoints.get(call_id)
    return ev.Delegation(
        expert=_parse_expert(raw["expert"]),
        tool_call_id=call_id,
        tool_name=raw["toolName"],
        query=raw["query"],
        run_id=f"{run_id}-{call_id}" if child_checkpoint is None else child_checkpoint["runId"],
    )


def _parse_expert(raw: Json) -> ev.ExpertRef:
    return ev.ExpertRef(
        key=raw["key"], name=raw.get("name") or raw["key"], version=raw.get("version") or ""
    )


def _parse_message(raw: Json) -> Message:
    parts = [_parse_part(one) for one in raw["contents"]]
    if raw["type"] == "instructionMessage":
        stable, *volatile = [str(part["text"]) for part in parts] or [""]
        return InstructionMessage(stable=stable, volatile="\n\n".join(volatile))
    return _MESSAGE_ADAPTER.validate_python({"type": raw["type"], "contents": parts})


def _parse_part(raw: Json) -> Json:
    part = {name: value for name, value in raw.items() if name not in {"id", "cache"}}
    if part["type"] == "toolResultPart":
        part["contents"] = [_parse_part(one) for one in part["contents"]]
    return part


def _parse_tool_result(raw: Json) -> ToolResult:
    return ToolResult.model_validate({**raw, "result": [_parse_part(one) for one in raw["result"]]})


def _parse_usage(raw: Mapping[str, Any] | None) -> Usage:
    names = {field.alias or name for name, field in Usage.model_fields.items()}
    return Usage.model_validate({k: v for k, v in (raw or {}).items() if k in names})


def _read_json(path: Path) -> Json:
    try:
        document: Json = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: it is no JSON.") from error
    return document
