"""Jobs that stand in a folder as JSON files, in the layout that `perstack.store.layout` writes."""

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
from perstack.store.archive import Packed
from perstack.store.layout import JOBS
from perstack.store.projection import by_run
from perstack.store.retelling import Fact, Told, retell

Json = dict[str, Any]

JOB = "job.json"
COMPLETED = "completeRun"
UNFINISHED = frozenset({"init", "proceeding"})
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)


def job_folders(folder: Path) -> list[Path]:
    """The folders of the jobs in `folder`: an export, a workspace's `perstack`, or a single job.

    Raises:
        ConfigError: There are none.
    """
    found = [path.parent for path in (folder / JOB, *sorted(folder.glob(f"{JOBS}/*/{JOB}")))]
    found = [home for home in found if (home / JOB).is_file()]
    if not found:
        raise ConfigError(
            f"{folder} has no jobs.", hint=f"Name a folder that has {JOBS}/JOB/{JOB} in it."
        )
    return found


def read_job(home: Path) -> Packed:
    """A job with events made from its files.

    Raises:
        ConfigError: A file cannot be read or understood.
    """
    job = _read(home / JOB)
    try:
        events = tuple(_job_events(home, job))
        newest_checkpoints(by_run(events))
    except (AttributeError, KeyError, TypeError, ValueError, IllegalTransitionError) as error:
        raise ConfigError(
            f"{home} holds a job that cannot be understood.",
            hint="It may come from a version that this one does not know.",
        ) from error
    return Packed(str(job["id"]), events)


@dataclass(slots=True)
class _Files:
    """What the files of a job say, as far as it is of use."""

    job: Json
    newest: dict[str | None, Json] = field(default_factory=dict[str | None, Json])
    settings: dict[str, Json] = field(default_factory=dict[str, Json])
    facts: dict[str, Fact] = field(default_factory=dict[str, Fact])
    ends: dict[str, Fact] = field(default_factory=dict[str, Fact])
    skills: dict[str, str] = field(default_factory=dict[str, str])
    runs: dict[str, str] = field(default_factory=dict[str, str])
    """For each run, the one that it went on as: elsewhere a run gets a new id as it goes on."""


def _job_events(home: Path, job: Json) -> list[ev.RunEvent]:
    files = _Files(job)
    _choose(files, home / "checkpoints")
    if None not in files.newest:
        raise ConfigError(
            f"{home} has no checkpoint of the expert that the job began with.",
            hint="Nothing of it can be continued.",
        )
    for path in sorted((home / "runs").glob("*/run-setting.json")):
        setting = _read(path)
        files.settings[setting["runId"]] = setting
    for path in sorted((home / "runs").glob("*/event-*.json")):
        _learn(files, _read(path))
    courses = [retell(_told(files, checkpoint)) for checkpoint in files.newest.values()]
    courses.sort(key=_is_delegated)
    beginning, *rest = (event for course in courses for event in course)
    # Each run in its order, side by side as their times tell, after what began the job.
    rest.sort(key=lambda event: event.stamp.timestamp)
    return cast("list[ev.RunEvent]", [beginning, *rest])


def _choose(files: _Files, folder: Path) -> None:
    """Find the newest checkpoint of each run. Of the others, which are large, nothing is kept."""
    calls: dict[str, str | None] = {}
    for path in sorted(folder.glob("*.json")):
        checkpoint = _read(path)
        call = calls[checkpoint["runId"]] = _call_of(checkpoint)
        known = files.newest.get(call)
        if known is None or _progress(checkpoint) >= _progress(known):
            files.newest[call] = checkpoint
    files.runs = {run_id: files.newest[call]["runId"] for run_id, call in calls.items()}


def _is_delegated(course: Sequence[ev.StoredEvent]) -> bool:
    first = course[0]
    return isinstance(first, ev.StartRun) and first.delegated_by is not None


def _progress(checkpoint: Json) -> tuple[int, int, bool]:
    return (
        int(checkpoint["stepNumber"]),
        len(checkpoint["messages"]),
        checkpoint["status"] not in UNFINISHED,
    )


def _call_of(checkpoint: Json) -> str | None:
    """The call that a run answers: what tells apart the runs of a job, whatever their ids."""
    delegated_by = checkpoint.get("delegatedBy")
    return None if delegated_by is None else str(delegated_by["toolCallId"])


def _learn(files: _Files, event: Json) -> None:
    """Take from an event what no checkpoint says."""
    if event["type"] == COMPLETED:
        files.ends[event["runId"]] = _fact(event)
    elif "id" in (message := event.get("newMessage", {})):
        files.facts[message["id"]] = _fact(event)
    for name in ("toolCalls", "toolResults", "newToolResults"):
        _learn_skills(files, event.get(name) or ())
    _learn_skills(files, [event[name] for name in ("toolCall", "toolResult") if event.get(name)])


def _fact(event: Json) -> Fact:
    return Fact(
        step_number=int(event["stepNumber"]),
        timestamp=int(event["timestamp"]),
        usage=_usage(event.get("usage")),
    )


def _learn_skills(files: _Files, named: Iterable[Json]) -> None:
    files.skills.update({one["id"]: one["skillName"] for one in named})


def _told(files: _Files, checkpoint: Json) -> Told:
    run_id: str = checkpoint["runId"]
    setting = files.settings.get(run_id, {})
    results = [_result(one) for one in checkpoint.get("partialToolResults") or ()]
    _learn_skills(files, checkpoint.get("pendingToolCalls") or ())
    files.skills.update({one.id: one.skill_name for one in results})
    step_number = int(checkpoint["stepNumber"])
    error = checkpoint.get("error")
    return Told(
        job_id=str(files.job["id"]),
        run_id=run_id,
        expert=_expert(checkpoint["expert"]),
        status=checkpoint["status"],
        step_number=step_number,
        step_limit=max(step_number, int(setting.get("maxSteps") or 0)),
        started_at=int(setting.get("startedAt") or files.job["startedAt"]),
        messages=[_message(one) for one in checkpoint["messages"]],
        provider=str(setting.get("providerConfig", {}).get("providerName", "")),
        model=setting.get("model") or "",
        facts=_facts(files, checkpoint),
        skills=files.skills,
        results=results,
        delegated_by=_delegated_by(files, checkpoint),
        delegate_to=[_delegation(files, run_id, one) for one in checkpoint.get("delegateTo") or ()],
        error=None if error is None else ev.RunError.model_validate(error),
    )


def _facts(files: _Files, checkpoint: Json) -> dict[int, Fact]:
    messages: list[Json] = checkpoint["messages"]
    facts = {
        position: files.facts[one["id"]]
        for position, one in enumerate(messages)
        if one.get("id") in files.facts
    }
    # What a run ended with has no id in the event that says so.
    end = files.ends.get(checkpoint["runId"])
    return facts if end is None else {**facts, len(messages) - 1: end}


def _delegated_by(files: _Files, checkpoint: Json) -> ev.DelegatedBy | None:
    raw = checkpoint.get("delegatedBy")
    if raw is None:
        return None
    return ev.DelegatedBy(
        expert=_expert(raw["expert"]),
        tool_call_id=raw["toolCallId"],
        tool_name=raw["toolName"],
        checkpoint_id=raw["checkpointId"],
        run_id=files.runs.get(str(raw["runId"]), str(raw["runId"])),
    )


def _delegation(files: _Files, run_id: str, raw: Json) -> ev.Delegation:
    call_id: str = raw["toolCallId"]
    child = files.newest.get(call_id)
    return ev.Delegation(
        expert=_expert(raw["expert"]),
        tool_call_id=call_id,
        tool_name=raw["toolName"],
        query=raw["query"],
        run_id=f"{run_id}-{call_id}" if child is None else child["runId"],
    )


def _expert(raw: Json) -> ev.ExpertRef:
    return ev.ExpertRef(
        key=raw["key"], name=raw.get("name") or raw["key"], version=raw.get("version") or ""
    )


def _message(raw: Json) -> Message:
    parts = [_part(one) for one in raw["contents"]]
    if raw["type"] == "instructionMessage":
        stable, *volatile = [str(part["text"]) for part in parts] or [""]
        return InstructionMessage(stable=stable, volatile="\n\n".join(volatile))
    return _MESSAGE.validate_python({"type": raw["type"], "contents": parts})


def _part(raw: Json) -> Json:
    part = {name: value for name, value in raw.items() if name not in {"id", "cache"}}
    if part["type"] == "toolResultPart":
        part["contents"] = [_part(one) for one in part["contents"]]
    return part


def _result(raw: Json) -> ToolResult:
    return ToolResult.model_validate({**raw, "result": [_part(one) for one in raw["result"]]})


def _usage(raw: Mapping[str, Any] | None) -> Usage:
    known = {field.alias or name: 0 for name, field in Usage.model_fields.items()}
    return Usage.model_validate(known | {k: v for k, v in (raw or {}).items() if k in known})


def _read(path: Path) -> Json:
    try:
        document: Json = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: it is no JSON.") from error
    return document
